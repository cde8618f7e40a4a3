"""English lyrics of our own: an opening and a rhyming ending that together have the wanted number of syllables.

The phrases live in `phrases.txt` (written for this project). A hyphen splits a word into its sung syllables.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from pipeline.songs.score import Word

COMMON = "any"  # openings that fit every theme


@dataclass(frozen=True, slots=True)
class Phrase:
    """A piece of a line."""

    words: tuple[Word, ...]

    @property
    def syllables(self) -> int:
        return sum(len(word.syllables) for word in self.words)


@dataclass(frozen=True, slots=True)
class Bank:
    """All phrases: openings by theme, endings by rhyme, and words that fill a line up."""

    openings: dict[str, tuple[Phrase, ...]]
    endings: dict[str, tuple[Phrase, ...]]
    fillers: tuple[Phrase, ...]
    bands: tuple[str, ...]

    @property
    def vocabulary(self) -> tuple[Word, ...]:
        groups = [*self.openings.values(), *self.endings.values(), self.fillers]
        return tuple(
            sorted({word for group in groups for phrase in group for word in phrase.words}, key=lambda w: w.text)
        )


def parse(text: str) -> Phrase:
    """``"the ri-ver runs"`` -> three words, four syllables."""
    return Phrase(tuple(Word(token.replace("-", ""), tuple(token.split("-"))) for token in text.split()))


@cache
def bank() -> Bank:
    """The phrases of `phrases.txt`: ``[kind name]`` heads, one phrase a line."""
    groups: dict[str, list[str]] = {}
    lines = files("pipeline.songs").joinpath("phrases.txt").read_text(encoding="utf-8").splitlines()
    head = ""
    for line in (line.strip() for line in lines):
        if line.startswith("["):
            head = line.strip("[]")
            groups[head] = []
        elif line and not line.startswith("#"):
            groups[head].append(line)

    def pick(kind: str) -> dict[str, tuple[Phrase, ...]]:
        return {
            name.split()[1]: tuple(parse(text) for text in texts)
            for name, texts in groups.items()
            if name.split()[0] == kind
        }

    return Bank(pick("theme"), pick("rhyme"), tuple(parse(t) for t in groups["filler"]), tuple(groups["band"]))


class Lyricist:
    """Writes the lines of one song on one theme, no line twice unless asked to repeat it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.bank = bank()
        themes = sorted(self.bank.openings.keys() - {COMMON})
        self.theme = str(rng.choice(themes))
        self.used: set[Phrase] = set()

    def verse(self, syllables: list[int]) -> list[Phrase]:
        """One line per wanted count of syllables (>= 2); lines rhyme in pairs where the counts allow it."""
        rhymes = [str(name) for name in self.rng.permutation(sorted(self.bank.endings))]
        return [self.line(count, rhymes[(index // 2) % len(rhymes)]) for index, count in enumerate(syllables)]

    def line(self, count: int, rhyme: str) -> Phrase:
        """A line of exactly `count` syllables that ends on `rhyme`, fresh pieces before used ones."""
        endings = self._fresh([p for p in self.bank.endings[rhyme] if p.syllables <= count])
        openings = self._fresh([*self.bank.openings[self.theme], *self.bank.openings[COMMON]])
        pairs = [(o, e) for o in openings for e in endings if o.syllables + e.syllables == count]
        if pairs:
            opening, ending = min(pairs, key=lambda pair: sum(piece in self.used for piece in pair))
            self.used |= {opening, ending}
            return Phrase(opening.words + ending.words)
        return self._filled(count, endings)

    def _fresh(self, phrases: list[Phrase]) -> list[Phrase]:
        order = [phrases[i] for i in self.rng.permutation(len(phrases))]
        return sorted(order, key=lambda phrase: phrase in self.used)

    def _filled(self, count: int, endings: list[Phrase]) -> Phrase:
        """An ending behind as many filler syllables ("oh", "and I") as the line lacks."""
        words = endings[0].words if endings else ()
        while (missing := count - sum(len(word.syllables) for word in words)) > 0:
            fitting = [phrase for phrase in self.bank.fillers if phrase.syllables <= missing]
            words = fitting[int(self.rng.integers(len(fitting)))].words + words
        return Phrase(words)
