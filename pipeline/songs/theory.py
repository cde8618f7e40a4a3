"""Keys, chords and progressions.

Conventions: pitch classes 0..11 with C = 0; MIDI pitches with C4 = 60; chord names are Harte's (``A:min7``), key names
``A minor``.
"""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["major", "minor"]
Quality = Literal["maj", "min", "dim", "maj7", "min7", "7", "hdim7"]

SCALES: dict[Mode, tuple[int, ...]] = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_MAJOR_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_MINOR_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
_QUALITIES: dict[tuple[int, ...], Quality] = {
    (0, 4, 7): "maj",
    (0, 3, 7): "min",
    (0, 3, 6): "dim",
    (0, 4, 7, 11): "maj7",
    (0, 3, 7, 10): "min7",
    (0, 4, 7, 10): "7",
    (0, 3, 6, 10): "hdim7",
}


@dataclass(frozen=True, slots=True)
class Chord:
    """A diatonic chord; `tones[0]` is the root."""

    name: str
    tones: tuple[int, ...]  # pitch classes, root first

    @property
    def root(self) -> int:
        return self.tones[0]


@dataclass(frozen=True, slots=True)
class Key:
    """A major or natural minor key."""

    tonic: int  # pitch class
    mode: Mode

    @property
    def name(self) -> str:
        return f"{self.note_name(self.tonic)} {self.mode}"

    @property
    def scale(self) -> tuple[int, ...]:
        """The seven pitch classes, tonic first."""
        return tuple((self.tonic + step) % 12 for step in SCALES[self.mode])

    def note_name(self, pitch_class: int) -> str:
        return (_MAJOR_NAMES if self.mode == "major" else _MINOR_NAMES)[pitch_class % 12]

    def chord(self, degree: int, seventh: bool = False) -> Chord:
        """The chord on scale degree 1..7: thirds stacked inside the scale."""
        tones = tuple(self.scale[(degree - 1 + 2 * i) % 7] for i in range(4 if seventh else 3))
        shape = tuple((tone - tones[0]) % 12 for tone in tones)
        return Chord(f"{self.note_name(tones[0])}:{_QUALITIES[shape]}", tones)


PROGRESSIONS: dict[Mode, dict[str, tuple[tuple[int, ...], ...]]] = {
    "major": {
        "verse": ((1, 5, 6, 4), (1, 6, 4, 5), (1, 4, 6, 5), (1, 3, 4, 5), (6, 4, 1, 5), (1, 4, 1, 5), (1, 6, 2, 5)),
        "pre-chorus": ((2, 4, 5, 5), (4, 5, 6, 5), (2, 5, 4, 5), (6, 4, 2, 5)),
        "chorus": ((4, 5, 1, 6), (1, 5, 6, 4), (1, 5, 2, 4), (6, 4, 1, 5), (4, 1, 5, 6), (1, 4, 5, 4)),
        "bridge": ((6, 3, 4, 5), (4, 3, 2, 5), (2, 6, 4, 5), (6, 5, 4, 4)),
    },
    "minor": {
        "verse": ((1, 6, 3, 7), (1, 4, 6, 7), (1, 7, 6, 7), (1, 3, 7, 4), (1, 4, 1, 5), (1, 6, 4, 5)),
        "pre-chorus": ((4, 6, 7, 7), (6, 7, 4, 5), (4, 5, 6, 7), (6, 4, 7, 7)),
        "chorus": ((6, 7, 1, 3), (1, 6, 3, 7), (6, 3, 7, 1), (1, 7, 4, 6), (4, 6, 1, 7)),
        "bridge": ((6, 7, 3, 4), (4, 1, 6, 7), (3, 7, 4, 6), (6, 4, 1, 7)),
    },
}
"""Scale degrees, one a bar, by mode and function; no diminished chord (7 in major, 2 in minor) occurs in them."""


def nearest(pitch_class: int, around: int) -> int:
    """The MIDI pitch of a pitch class that lies within 6 semitones of `around`."""
    return around + (pitch_class - around + 6) % 12 - 6
