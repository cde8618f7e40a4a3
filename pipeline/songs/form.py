"""The form of a song: which sections, how many bars each, which chord in each bar."""

from dataclasses import dataclass

import numpy as np

from pipeline.songs.score import BEATS_PER_BAR, Part
from pipeline.songs.theory import PROGRESSIONS, Chord, Key
from pipeline.types import Label

FORMS: tuple[tuple[Label, ...], ...] = (
    ("intro", "verse", "chorus", "inst", "outro"),
    ("intro", "verse", "chorus", "inst", "chorus", "outro"),
    ("intro", "verse", "pre-chorus", "chorus", "inst", "chorus", "outro"),
    ("intro", "verse", "chorus", "verse", "chorus", "inst", "outro"),
    ("intro", "verse", "chorus", "inst", "bridge", "chorus", "outro"),
    ("intro", "verse", "pre-chorus", "chorus", "inst", "verse", "chorus", "outro"),
    ("intro", "verse", "chorus", "inst", "verse", "chorus", "bridge", "chorus", "outro"),
    ("intro", "verse", "pre-chorus", "chorus", "verse", "pre-chorus", "chorus", "inst", "bridge", "chorus", "outro"),
)
SHORTEST_BARS: dict[Label, int] = {
    "intro": 1, "verse": 2, "pre-chorus": 2, "chorus": 2, "bridge": 2, "inst": 1, "outro": 1,
}  # fmt: skip
LONGEST_BARS: dict[Label, int] = {
    "intro": 4, "verse": 8, "pre-chorus": 4, "chorus": 8, "bridge": 4, "inst": 4, "outro": 4,
}  # fmt: skip
SUNG: frozenset[Label] = frozenset({"verse", "pre-chorus", "chorus", "bridge"})
ENERGY: dict[Label, float] = {
    "intro": 0.4, "verse": 0.5, "pre-chorus": 0.7, "chorus": 1.0, "bridge": 0.6, "inst": 0.85, "outro": 0.45,
}  # fmt: skip
FASTEST = 150.0  # beats a minute, issue 2
MINIMUM_BARS = sum(SHORTEST_BARS[label] for label in FORMS[0])


@dataclass(frozen=True, slots=True)
class Frame:
    """Tempo and number of bars, before the form is chosen."""

    tempo: float
    bars: int


def plan_frame(rng: np.random.Generator, tempo: tuple[float, float], seconds: tuple[float, float]) -> Frame:
    """A tempo near `tempo` and a number of whole bars that together last `seconds`; `ValueError` where no form fits."""
    low, high = seconds
    bar = BEATS_PER_BAR * 60.0  # s at one beat a minute
    shortest = MINIMUM_BARS * bar / FASTEST
    if not 0 < low <= high or high < shortest:
        raise ValueError(f"no song lasts {low}..{high} s, the shortest form takes {shortest:.1f} s: ask for more")
    length = float(rng.uniform(max(low, shortest), high))
    wish = float(rng.uniform(*tempo))
    bars = max(MINIMUM_BARS, int(length * wish / bar))
    bars += bars * bar / length < tempo[0]
    return Frame(round(bars * bar / length, 3), bars)


def plan_form(rng: np.random.Generator, bars: int) -> list[tuple[Label, int]]:
    """Labels and bars, `bars` in all; long enough songs get a long form, longer ones than any form longer sections."""
    shortest = [sum(SHORTEST_BARS[label] for label in form) for form in FORMS]
    longest = [sum(LONGEST_BARS[label] for label in form) for form in FORMS]
    fitting = [i for i, _ in enumerate(FORMS) if shortest[i] * 1.6 <= bars <= longest[i]]
    index = fitting[int(rng.integers(len(fitting)))] if fitting else 0 if bars < longest[0] else len(FORMS) - 1
    lengths = _stretch(rng, FORMS[index], bars, max(1, -(-bars // longest[index])))
    return list(zip(FORMS[index], lengths, strict=True))


def _stretch(rng: np.random.Generator, form: tuple[Label, ...], bars: int, factor: int) -> list[int]:
    """Lengthen sections of the shortest form, equal labels together, two bars at a time where possible."""
    lengths = {label: SHORTEST_BARS[label] for label in form}
    count = {label: form.count(label) for label in form}
    while True:
        spare = bars - sum(lengths[label] * count[label] for label in lengths)
        open_ = [label for label in lengths if lengths[label] < factor * LONGEST_BARS[label]]
        pairs = [label for label in open_ if 2 * count[label] <= spare and lengths[label] % 2 == 0]
        ones = [label for label in open_ if label not in SUNG and lengths[label] % 2 and spare >= count[label]]
        if not (pairs or ones):
            break
        weights = np.array([3.0 if label in SUNG else 1.0 for label in pairs] + [4.0 for _ in ones])
        label = (pairs + ones)[int(rng.choice(len(weights), p=weights / weights.sum()))]
        lengths[label] += 2 if label in pairs else 1
    result = [lengths[label] for label in form]
    wordless = [len(form) - 1, *(index for index, label in enumerate(form[:-1]) if label not in SUNG)]
    for index in range(bars - sum(result)):  # what fits no label goes to single wordless sections
        result[wordless[index % len(wordless)]] += 1
    return result


def plan_parts(rng: np.random.Generator, form: list[tuple[Label, int]], key: Key, seventh: bool) -> tuple[Part, ...]:
    """Chords for every bar: one progression per function, the same in every verse and in every chorus."""
    pools = PROGRESSIONS[key.mode]
    chosen = {name: pool[int(rng.integers(len(pool)))] for name, pool in pools.items()}
    source = {"intro": str(rng.choice(["verse", "chorus"])), "inst": "chorus", "outro": "chorus"}
    parts: list[Part] = []
    bar = 0
    for index, (label, length) in enumerate(form):
        degrees = chosen[source.get(label, label)]
        chords = [key.chord(degrees[i % len(degrees)], seventh) for i in range(length)]
        last = index == len(form) - 1
        energy = ENERGY[label] - 0.12 * (label == "verse" and bar < sum(b for _, b in form) / 3)
        parts.append(Part(label, bar, length, _closed(chords, key, last), energy, label in SUNG))
        bar += length
    return tuple(parts)


def _closed(chords: list[Chord], key: Key, last: bool) -> tuple[Chord, ...]:
    """The song ends on the tonic triad."""
    return (*chords[:-1], key.chord(1)) if last else tuple(chords)
