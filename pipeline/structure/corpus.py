"""Songs of known truth as the structure networks learn from them.

Conventions: a song is a folder that `backline songs render` made (`mix.flac`, `truth.json`); what is heard of it is
kept in a cache folder, so that a second run starts at once.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipeline.audio import decode
from pipeline.detection.stage import Detector
from pipeline.structure import spectra
from pipeline.structure.grid import Grid
from pipeline.structure.sections import LABELS
from pipeline.structure.spectra import Spectra
from pipeline.structure.stage import NOTES
from pipeline.types import Label, Span

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Progress = Callable[[str, float], None]
FIRST_HELD_SEED = 500_000  # seeds from here on are for development and test: refused
BREATH = 0.6  # s; notes closer than this are one stretch of singing
FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}


@dataclass(frozen=True, slots=True)
class Stretch:
    start: float  # s
    end: float


@dataclass(frozen=True, slots=True)
class Part:
    start: float  # s
    end: float
    label: Label


@dataclass(frozen=True, slots=True)
class Told:
    """What training needs of a `truth.json`; the same in every version of the renderer, unlike `read_truth`'s whole."""

    seed: int
    kind: str
    key: str
    beats: tuple[float, ...]
    downbeats: tuple[float, ...]
    sections: tuple[Part, ...]
    words: tuple[Stretch, ...]
    speech: tuple[Stretch, ...] = ()  # spoken inside a song


@dataclass(frozen=True, slots=True)
class Song:
    """One song to learn from."""

    spectra: Spectra
    detected: tuple[Span, ...]  # where the detection stage heard a voice
    sung: tuple[Span, ...]  # where there is one
    beats: Floats  # [N] s
    downbeats: Floats  # [M] s
    sections: tuple[tuple[float, float, int], ...]  # start s, end s, index into LABELS
    tonic: int
    mode: int  # 0 major, 1 minor


def read(folders: Sequence[Path], cache: Path, detector: Detector, progress: Progress) -> list[Song]:
    """All songs, in the folders' order; `ValueError` for a seed that isn't for training, or for no song at all."""
    cache.mkdir(parents=True, exist_ok=True)
    songs = []
    for done, folder in enumerate(folders):
        truth = TypeAdapter(Told).validate_json((folder / "truth.json").read_bytes())
        if truth.seed >= FIRST_HELD_SEED:
            raise ValueError(f"{folder}: seed {truth.seed} is kept out of training (limit {FIRST_HELD_SEED})")
        if truth.kind == "song":
            songs.append(_song(truth, *_heard(folder, cache, detector)))
        progress("listening", (done + 1) / len(folders))
    if not songs:
        raise ValueError(f"no rendered song among {len(folders)} folders: backline songs render --out DIR")
    return songs


def targets(song: Song, grid: Grid) -> tuple[Indices, Floats]:
    """``[N]`` labels and ``[N]`` boundaries (1 = a section begins with this beat) on a song's grid."""
    middle = (grid.lines[1:] + grid.lines[:-1]) / 2
    starts = np.array([start for start, _, _ in song.sections])
    labels = np.array([label for _, _, label in song.sections])
    section = np.clip(np.searchsorted(starts, middle, side="right") - 1, 0, len(labels) - 1)
    boundary = np.zeros(len(middle))
    boundary[[int(np.abs(grid.lines[:-1] - start).argmin()) for start in starts]] = 1.0
    return labels[section], boundary


def _heard(folder: Path, cache: Path, detector: Detector) -> tuple[Spectra, tuple[Span, ...]]:
    text = f"{folder.resolve()} {(folder / 'truth.json').stat().st_mtime_ns}"
    path = cache / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        audio = decode(str(folder / "mix.flac"))
        heard = spectra.analyse(audio)
        spans = np.array([(s.start, s.end) for s in detector(audio).vocal_active]).reshape(-1, 2)
        partial = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(
            partial,
            mel=heard.mel.astype(np.float16),
            pitch=heard.pitch.astype(np.float16),
            duration=heard.duration,
            spans=spans,
        )
        partial.replace(path)
    with np.load(path) as kept:
        heard = Spectra(kept["mel"].astype(np.float32), kept["pitch"].astype(np.float32), float(kept["duration"]))
        return heard, tuple(Span(float(a), float(b)) for a, b in kept["spans"])


def _song(truth: Told, heard: Spectra, detected: tuple[Span, ...]) -> Song:
    tonic, mode = truth.key.split()
    return Song(
        spectra=heard,
        detected=detected,
        sung=_sung(truth),
        beats=np.array(truth.beats),
        downbeats=np.array(truth.downbeats),
        sections=tuple((s.start, s.end, LABELS.index(s.label)) for s in truth.sections),
        tonic=NOTES.index(FLATS.get(tonic, tonic)),
        mode=int(mode == "minor"),
    )


def _sung(truth: Told) -> tuple[Span, ...]:
    spans: list[Span] = []
    for word in sorted((*truth.words, *truth.speech), key=lambda word: word.start):
        if spans and word.start - spans[-1].end < BREATH:
            spans[-1] = Span(spans[-1].start, max(spans[-1].end, word.end))
        else:
            spans.append(Span(word.start, word.end))
    return tuple(spans)
