"""Keys, chords and progressions.

Conventions: pitch classes 0..11 with C = 0; MIDI pitches with C4 = 60; chord names are Harte's (``A:min7``), key names
``A minor``.
"""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["major", "minor"]
Degree = int | str
"""A scale degree 1..7, or the name of a borrowed chord in `BORROWED`."""

SCALES: dict[Mode, tuple[int, ...]] = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_MAJOR_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_MINOR_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
_QUALITIES: dict[tuple[int, ...], str] = {
    (0, 4, 7): "maj",
    (0, 3, 7): "min",
    (0, 3, 6): "dim",
    (0, 4, 7, 11): "maj7",
    (0, 3, 7, 10): "min7",
    (0, 4, 7, 10): "7",
    (0, 3, 6, 10): "hdim7",
    (0, 5, 7): "sus4",
    (0, 4, 7, 2): "maj(9)",
    (0, 3, 7, 2): "min(9)",
    (0, 4, 7, 9): "maj6",
}
BORROWED: dict[Mode, dict[str, tuple[int, tuple[int, ...]]]] = {  # semitones above the tonic, shape
    "major": {"iv": (5, (0, 3, 7)), "bVII": (10, (0, 4, 7)), "bVI": (8, (0, 4, 7)), "II": (2, (0, 4, 7)),
              "III": (4, (0, 4, 7)), "I7": (0, (0, 4, 7, 10)), "IV7": (5, (0, 4, 7, 10)), "V7": (7, (0, 4, 7, 10))},
    "minor": {"V": (7, (0, 4, 7)), "V7": (7, (0, 4, 7, 10)), "IV": (5, (0, 4, 7)), "bII": (1, (0, 4, 7))},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chord:
    """A chord; `tones` are root, third or fourth, fifth, and what comes on top."""

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

    def named(self, degree: Degree, seventh: bool = False) -> Chord:
        """The diatonic chord of a number, the borrowed one of a name."""
        if isinstance(degree, int):
            return self.chord(degree, seventh)
        above, shape = BORROWED[self.mode][degree]
        return self.shaped((self.tonic + above) % 12, shape)

    def shaped(self, root: int, shape: tuple[int, ...]) -> Chord:
        """The chord of a shape (semitones above the root) on a pitch class."""
        return Chord(f"{self.note_name(root)}:{_QUALITIES[shape]}", tuple((root + step) % 12 for step in shape))

    def coloured(self, chord: Chord, colour: str) -> Chord:
        """A triad of the scale as sus4, with a ninth or a sixth, where those notes are in the scale; else as it is."""
        shape = tuple((tone - chord.root) % 12 for tone in chord.tones)
        wanted = {"sus4": (0, 5, 7), "ninth": (*shape, 2), "sixth": (*shape, 9)}.get(colour, shape)
        inside = all((chord.root + step) % 12 in self.scale for step in wanted)
        return self.shaped(chord.root, wanted) if len(shape) == 3 and inside and wanted in _QUALITIES else chord


PROGRESSIONS: dict[Mode, dict[str, tuple[tuple[Degree, ...], ...]]] = {
    "major": {
        "verse": (
            (1, 5, 6, 4), (1, 6, 4, 5), (1, 4, 6, 5), (1, 3, 4, 5), (6, 4, 1, 5), (1, 4, 1, 5), (1, 6, 2, 5),
            (1, 1, 4, 4), (1, 1, 6, 6, 4, 4, 5, 5), (1, 2, 4, 1), (1, "bVII", 4, 1), (1, 4, "iv", 1),
            (1, 3, 6, 4, 1, 3, 4, 5), (4, 1, 4, 5), (1, 5, 4, 4), (1, "III", 6, 4), (1, 6, 1, 6),
        ),
        "pre-chorus": (
            (2, 4, 5, 5), (4, 5, 6, 5), (2, 5, 4, 5), (6, 4, 2, 5), (4, 4, 5, 5), (2, 3, 4, 5), (6, "II", 4, 5),
            (4, "iv", 5, 5),
        ),
        "chorus": (
            (4, 5, 1, 6), (1, 5, 6, 4), (1, 5, 2, 4), (6, 4, 1, 5), (4, 1, 5, 6), (1, 4, 5, 4), (1, 4, 6, 5),
            (4, 5, 3, 6), (1, "bVII", 4, 4), (6, 5, 4, 5), (1, 3, 4, "iv"), (1, 5, 4, 1), (4, 4, 1, 1, 5, 5, 1, 1),
        ),
        "bridge": (
            (6, 3, 4, 5), (4, 3, 2, 5), (2, 6, 4, 5), (6, 5, 4, 4), ("bVI", "bVII", 1, 1), (4, 4, 6, 5),
            (2, "II", 4, 5), (6, 6, 3, 4),
        ),
    },
    "minor": {
        "verse": (
            (1, 6, 3, 7), (1, 4, 6, 7), (1, 7, 6, 7), (1, 3, 7, 4), (1, 4, 1, 5), (1, 6, 4, 5), (1, 1, 6, 7),
            (1, 7, 6, "V"), (1, 4, 7, 3), (1, 1, 4, 4), (1, "IV", 1, "IV"), (1, 3, 4, 6), (1, 6, 1, 7),
            (1, 1, 4, 4, 6, 6, "V", "V"),
        ),
        "pre-chorus": (
            (4, 6, 7, 7), (6, 7, 4, 5), (4, 5, 6, 7), (6, 4, 7, 7), (4, 4, "V", "V"), (6, 7, 3, "V"),
            (4, "bII", "V", "V"),
        ),
        "chorus": (
            (6, 7, 1, 3), (1, 6, 3, 7), (6, 3, 7, 1), (1, 7, 4, 6), (4, 6, 1, 7), (6, 7, 1, 1), (1, 3, 7, "IV"),
            (1, 4, "V", 1), (3, 7, 1, 6), (6, 4, 1, "V"), (1, 5, 6, 7),
        ),
        "bridge": (
            (6, 7, 3, 4), (4, 1, 6, 7), (3, 7, 4, 6), (6, 4, 1, 7), (4, 4, 1, "V"), (6, 6, "bII", "V"), (3, 3, 7, 7),
        ),
    },
}  # fmt: skip
"""Chords, one a bar, by mode and function; no diminished chord (7 in major, 2 in minor) occurs in them."""
BLUES: dict[Mode, tuple[Degree, ...]] = {
    "major": ("I7", "IV7", "I7", "I7", "IV7", "IV7", "I7", "I7", "V7", "IV7", "I7", "V7"),
    "minor": (1, 4, 1, 1, 4, 4, 1, 1, 6, "V7", 1, "V7"),
}
"""Twelve bars."""


def nearest(pitch_class: int, around: int) -> int:
    """The MIDI pitch of a pitch class that lies within 6 semitones of `around`."""
    return around + (pitch_class - around + 6) % 12 - 6
