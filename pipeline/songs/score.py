"""What the composer hands to the band and to the singer.

Conventions: positions and lengths are beats (quarter notes) from the start of the song; a bar has four; the tempo is
constant, so seconds = beats * 60 / tempo.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.songs.theory import Chord, Key
from pipeline.types import Label

BEATS_PER_BAR = 4
RATE = 48_000  # Hz of everything that is rendered


@dataclass(frozen=True, slots=True)
class Part:
    """One section of the form."""

    label: Label
    start_bar: int
    bars: int
    chords: tuple[Chord, ...]  # one a bar
    energy: float  # 0..1, how full the band plays
    sung: bool

    @property
    def start(self) -> int:
        return self.start_bar * BEATS_PER_BAR

    @property
    def end(self) -> int:
        return (self.start_bar + self.bars) * BEATS_PER_BAR


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the lyrics and its syllables as they are sung."""

    text: str
    syllables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tone:
    """One note of the melody."""

    start: float
    length: float
    pitch: int  # MIDI


@dataclass(frozen=True, slots=True)
class Sung:
    """One syllable of a word on one or more notes."""

    word: int  # index into Score.words
    syllable: int  # index into the word's syllables
    tones: tuple[Tone, ...]
    opens: bool  # first syllable of a line: the singer breathes before it
    effort: float  # 0..1, how loudly it is sung

    @property
    def start(self) -> float:
        return self.tones[0].start

    @property
    def end(self) -> float:
        return self.tones[-1].start + self.tones[-1].length


@dataclass(frozen=True, slots=True)
class Score:
    """A whole song."""

    seed: int
    title: str
    artist: str
    style: str  # name in styles.STYLES
    key: Key
    tempo: float  # beats a minute
    parts: tuple[Part, ...]
    words: tuple[Word, ...]
    lines: tuple[tuple[int, int], ...]  # [start, end) into words
    sung: tuple[Sung, ...]
    solo: tuple[Tone, ...]  # the lead instrument's melody: intro, inst, outro

    @property
    def bars(self) -> int:
        return sum(part.bars for part in self.parts)

    @property
    def beats(self) -> int:
        return self.bars * BEATS_PER_BAR

    def seconds(self, beats: float) -> float:
        return beats * 60.0 / self.tempo

    def chord_at(self, beat: float) -> Chord:
        part = self.part_at(beat)
        bar = int(min(max(beat, part.start), part.end - 1e-6)) // BEATS_PER_BAR
        return part.chords[bar - part.start_bar]

    def part_at(self, beat: float) -> Part:
        return next((part for part in self.parts if beat < part.end), self.parts[-1])


def stream(seed: int, name: str) -> np.random.Generator:
    """Independent random numbers for one purpose: a change in one part of the renderer moves no draw of another."""
    return np.random.default_rng([seed, *name.encode()])
