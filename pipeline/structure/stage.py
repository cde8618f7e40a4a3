"""Structure: where a song's beats, bars and sections lie, its tempo and its key.

Conventions: times are seconds from the start of the song, ascending; sections are half-open, tile ``[0, duration)``
and carry one of SongFormer's eight labels; downbeats are a subset of the beats. The song is analysed, not its stems.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pipeline.assets.needs import Needs
from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio, Seconds, Section, Span

VERSION = 2  # part of the stage's key: bump it when the answer of a backend changes
NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
"""Tonics of keys, by pitch class."""
SHIPPED = Path(__file__).parent / "weights" / "tcn.safetensors"


class StructureConfig(Config):
    backend: Literal["tcn", "songformer"] = "tcn"  # SongFormer names the sections alone: the rest stays tcn's
    metres: tuple[int, ...] = (3, 4)  # beats a bar that are tried, one for the whole song; ours
    weights: str = ""  # of tcn: path of a safetensors file; empty = the one shipped in the package
    device: Literal["cpu", "cuda"] = "cpu"  # of SongFormer


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


@runtime_checkable
class BatchExtractor(Protocol):
    """One whose batches several songs fill together."""

    def batch(self, songs: Sequence[tuple[Audio, Sequence[Span] | None]]) -> list[Structure]:
        """What it says of each song (and where someone sings in it) alone, bit for bit on the same machine."""


def analyse(extractor: Extractor, songs: Sequence[tuple[Audio, Sequence[Span] | None]]) -> list[Structure]:
    """Analyse several songs, at once where the extractor can."""
    if isinstance(extractor, BatchExtractor):
        return extractor.batch(songs)
    return [extractor(audio, vocal_active) for audio, vocal_active in songs]


BACKENDS = {"tcn": "pipeline.structure.tcn:build", "songformer": "pipeline.structure.songformer.backend:build"}
SONGFORMER_ASSETS = ("songformer", "musicfm", "muq")
AT_ONCE = 420.0  # s of audio in a batch: the released windows, 14 of them 30 s; more fit than fill a GPU. An estimate
SONGS_AT_ONCE = 1200.0  # s of songs that a worker hears at once: 40 windows of 30 s, nearly three whole batches. Ours


def needs(config: StructureConfig) -> Needs:
    """What the chosen backend asks of a machine; two listeners of 0.32 e9 parameters hear 420 s at once."""
    if config.backend == "tcn":
        return Needs()
    return Needs(
        SONGFORMER_ASSETS, gpu_memory_gb=12.0, memory_gb=12.0, batch_seconds=AT_ONCE, songs_seconds=SONGS_AT_ONCE
    )


def build(config: StructureConfig) -> Extractor:
    """Load the backend named in the config; `BackendUnavailable` if it or its weights can't be had."""
    extractor: Extractor = load_backend("structure", BACKENDS, config)
    return extractor


def weights_path(config: StructureConfig) -> Path:
    """The file that `build` loads."""
    return Path(config.weights) if config.weights else SHIPPED


def weights_sha256(config: StructureConfig) -> str:
    """Hash of tcn's weights that `build` would load, without loading them; `BackendUnavailable` if they are missing."""
    path = weights_path(config)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BackendUnavailable(f"structure weights {path} can't be read: {error}; set structure.weights") from error
