"""Words of style, instruments and mood -> one sentence, the same shape whichever backend heard them."""

from collections.abc import Iterable, Mapping, Sequence

# a word that says less than one of these, which may have been said before
COARSE: Mapping[str, tuple[str, ...]] = {
    "guitar": ("acoustic guitar", "electric guitar", "distorted guitar"),
    "synthesizer": ("synthesizer pads", "synth bass"),
    "violin": ("strings",),
    "cello": ("strings",),
    "flute": ("woodwinds",),
}


def pick(words: Iterable[tuple[str, float]], count: int) -> tuple[str, ...]:
    """Up to `count` different words in the order given; one that says less than an earlier one is left out."""
    kept: list[str] = []
    for word, _ in words:
        if word not in kept and not set(COARSE.get(word, ())) & set(kept):
            kept.append(word)
    return tuple(kept[:count])


def compose(styles: Sequence[str], instruments: Sequence[str], moods: Sequence[str]) -> str:
    """ "A rock and pop track with guitar and drums, in a sad mood." of what is known; "A track." of nothing."""
    sentence = f"{_article(styles)} {_list(styles)} track" if styles else "A track"
    sentence += f" with {_list(instruments)}" if instruments else ""
    mood = f" in {_article(moods).lower()} {_list(moods)} mood" if moods else ""
    return f"{sentence}{',' if instruments and moods else ''}{mood}."


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _article(words: Sequence[str]) -> str:
    return "An" if words[0][0].lower() in "aeiou" or words[0] == "R&B" else "A"
