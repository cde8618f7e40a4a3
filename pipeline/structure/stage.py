"""Structure: where a song's beats, bars and sections lie, its tempo and its key.

Conventions: times are seconds from the start of the song, ascending; sections are half-open, tile ``[0, duration)``
and carry one of SongFormer's eight labels; downbeats are a subset of the beats. The song is analysed, not its stems.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio, Seconds, Section, Span

VERSION = 1  # part of the stage's key: bump it when the answer of a backend changes
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
"""Tonics of keys, by pitch class."""


class StructureConfig(Config):
    backend: Literal["selfsim"] = "selfsim"  # "songformer" arrives with its port
    beats_per_bar: int = 4  # beats; ours: popular music is in four far more often than not
    min_section: Seconds = 4.0  # s; this and the next three: swept on 26 songs that we rendered, 2026-11-22
    kernel: Seconds = 12.0  # s on each side of a boundary that the novelty compares
    peak: float = 0.2  # share of the strongest novelty that a boundary needs
    irregularity: float = 0.1  # cost of a section that is no multiple of four bars, in the same unit


@dataclass(frozen=True, slots=True)
class Structure:
    """The form of one song."""

    sections: tuple[Section, ...]
    beats: tuple[Seconds, ...]
    downbeats: tuple[Seconds, ...]
    tempo: float  # beats a minute; 0 where no beat was found
    key: str  # "C major", "F# minor"; sharps only


class Extractor(Protocol):
    name: str
    config: StructureConfig
    backend: str
    weights_sha256: str
    licence: str

    def __call__(self, audio: Audio, vocal_active: Sequence[Span] | None = None) -> Structure:
        """Analyse one song of any rate; `vocal_active` (where someone sings) helps the labels, None = not known."""


BACKENDS = {"selfsim": "pipeline.structure.selfsim:build"}


def build(config: StructureConfig) -> Extractor:
    """Load the backend named in the config; `BackendUnavailable` if it can't be imported."""
    extractor: Extractor = load_backend("structure", BACKENDS, config)
    return extractor
