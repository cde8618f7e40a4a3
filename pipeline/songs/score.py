"""What the composer hands to the band and to the singers.

Conventions: positions and lengths are beats (quarter notes) from the start of the song; a bar has `meter` of them; the
tempo may change from bar to bar, and a shuffle delays the second half of each beat: `Score.seconds` knows both.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.songs.theory import Chord, Key
from pipeline.types import Label

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
    meter: int = 4  # beats a bar
    swell: float = 0.0  # what the energy gains from the first bar to the last
    spoken: bool = False  # somebody talks here (the form fault "speech")

    @property
    def start(self) -> int:
        return self.start_bar * self.meter

    @property
    def end(self) -> int:
        return (self.start_bar + self.bars) * self.meter

    def energy_at(self, bar: int) -> float:
        """The energy in one bar, counted from the start of the song."""
        place = (bar - self.start_bar) / max(1, self.bars - 1) - 0.5
        return float(np.clip(self.energy + self.swell * place, 0.1, 1.0))


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
class Backing:
    """A background voice: syllables of the lead's words on notes of its own."""

    kind: str  # name in harmony.KINDS
    sung: tuple[Sung, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """A whole song."""

    seed: int
    title: str
    artist: str
    style: str  # name in styles.STYLES
    key: Key
    tempo: float  # beats a minute, mean over the song
    parts: tuple[Part, ...]
    words: tuple[Word, ...]
    lines: tuple[tuple[int, int], ...]  # [start, end) into words
    sung: tuple[Sung, ...]
    solo: tuple[Tone, ...]  # the lead instrument's melody: intro, inst, outro
    meter: int  # beats a bar
    bar_times: tuple[float, ...]  # s, where each bar starts, and where the last one ends
    shuffle: float  # how late the middle of a beat comes, fraction of half a beat: 0 straight, 1/3 triplets
    backing: tuple[Backing, ...] = ()

    @property
    def bars(self) -> int:
        return sum(part.bars for part in self.parts)

    @property
    def beats(self) -> int:
        return self.bars * self.meter

    def seconds(self, beats: float) -> float:
        """The time of a position, also past the end (at the last bar's tempo)."""
        bar = int(min(max(beats, 0.0) // self.meter, self.bars - 1))
        start, end = self.bar_times[bar : bar + 2]
        return start + (self._shuffled(beats) / self.meter - bar) * (end - start)

    def _shuffled(self, beats: float) -> float:
        whole = float(np.floor(beats + 1e-9))
        part = max(0.0, beats - whole)
        early, late = 1 + self.shuffle, 1 - self.shuffle
        return whole + (part * early if part <= 0.5 else 0.5 * early + (part - 0.5) * late)

    def chord_at(self, beat: float) -> Chord:
        part = self.part_at(beat)
        bar = int(min(max(beat, part.start), part.end - 1e-6)) // self.meter
        return part.chords[bar - part.start_bar]

    def part_at(self, beat: float) -> Part:
        return next((part for part in self.parts if beat < part.end), self.parts[-1])


def stream(seed: int, name: str) -> np.random.Generator:
    """Independent random numbers for one purpose: a change in one part of the renderer moves no draw of another."""
    return np.random.default_rng([seed, *name.encode()])
