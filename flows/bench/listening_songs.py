"""Rendered songs of the listening experiment and their codes: of the stems as rendered, or as the separator cuts them.

Conventions: codes as in `listening_pairs`; each stem under the loudness rule, as at a build; what is there is kept, so
that a run that was cut off goes on. Held-out songs also have the voice 3 semitones higher, and the voice of another
song of their key and tempo.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from flows.bench.listening_arms import OTHER, TRANSPOSED, TRUE
from flows.bench.listening_pairs import Codes
from flows.bench.plan import FIRST_TEST_SEED
from pipeline.audio import decode
from pipeline.augmentation import transposed
from pipeline.codec import codec as codecs
from pipeline.codec.codec import CodecConfig
from pipeline.loudness import LoudnessConfig, level
from pipeline.separation import stage as separation
from pipeline.separation.stage import SeparationConfig
from pipeline.songs.composer import compose
from pipeline.songs.render import RenderedSong, SecondsRange, folder_name, render_song
from pipeline.songs.singers import singer_for
from pipeline.types import Audio

Source = Literal["dry", "separated"]
Progress = Callable[[str, int, int], None]
"""Phase, songs (in training: steps) done, and in all."""
TRAIN_SEED = 700_000  # of the first song that is trained on
HELD_SEED = FIRST_TEST_SEED + 60_000  # of the first held-out one
DONOR_SEED = FIRST_TEST_SEED + 70_000  # of the first that may lend its voice to held-out songs
SEMITONES = 3  # ours
TEMPO_RATIO = 1.03  # what counts as the same tempo; ours


@dataclass(frozen=True, slots=True)
class Job:
    """One song to render and to encode."""

    seed: int
    donor: int  # seed of the song that lends its voice; 0 = none found, or not held out
    held: bool
    source: Source
    songs: Path  # where rendered folders lie
    codes: Path  # the file that comes of it
    codec: CodecConfig
    seconds: SecondsRange


def prepare(jobs: Sequence[Job], workers: int, show: Progress) -> None:
    """Everything that is missing, in as many processes."""
    todo = [job for job in jobs if not job.codes.exists()]
    done = len(jobs) - len(todo)
    if todo and workers <= 1:
        for job in todo:
            make(job)
            show("render and encode", done := done + 1, len(jobs))
    elif todo:
        with processes(workers) as pool:
            for finished in as_completed([pool.submit(make, job) for job in todo]):
                finished.result()
                show("render and encode", done := done + 1, len(jobs))


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """So many, which share the cores; after an error what hasn't begun does not begin."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, initializer=torch.set_num_threads, initargs=(threads,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def make(job: Job) -> Path:
    """Render, separate if asked for, encode, and write the codes in one step."""
    song = _rendered(job, job.seed)
    vocal, accompaniment = _stems(job, song)
    streams = {TRUE: vocal, "accompaniment": accompaniment}
    if job.held:
        streams[TRANSPOSED] = transposed(vocal, SEMITONES)
    if job.donor:
        streams[OTHER] = _stems(job, _rendered(job, job.donor))[0]
    codes = {name: _codes(job.codec, audio) for name, audio in streams.items()}
    job.codes.parent.mkdir(parents=True, exist_ok=True)
    draft = job.codes.with_name(f".{job.codes.name}.{os.getpid()}.npz")
    np.savez(draft, **codes)  # type: ignore[arg-type]
    draft.replace(job.codes)
    return job.codes


def donors(seeds: Sequence[int], seconds: SecondsRange, candidates: int) -> dict[int, int]:
    """For each held-out seed that has one: the seed of another song of its key and tempo (`nearest`)."""
    lend = range(DONOR_SEED, DONOR_SEED + candidates)
    tables = [{seed: key_and_tempo(seed, seconds) for seed in some} for some in (seeds, lend)]
    return nearest(*tables)


def nearest(songs: Mapping[int, tuple[str, float]], others: Mapping[int, tuple[str, float]]) -> dict[int, int]:
    """From seed -> key and tempo: for each song the other one of its key whose tempo is nearest, within `TEMPO_RATIO`.

    No two get the same.
    """
    found: dict[int, int] = {}
    for seed, (key, tempo) in songs.items():
        free = [(near, one) for one, (other, near) in others.items() if other == key and one not in found.values()]
        ratios = [(max(tempo / near, near / tempo), one) for near, one in free]
        if ratios and min(ratios)[0] <= TEMPO_RATIO:
            found[seed] = min(ratios)[1]
    return found


@cache
def key_and_tempo(seed: int, seconds: SecondsRange) -> tuple[str, float]:
    """Of the song that the seed renders; beats a minute."""
    singer = singer_for(seed)
    score = compose(seed, seconds, (singer.low, singer.high))
    return str(score.key), score.tempo


def _rendered(job: Job, seed: int) -> RenderedSong:
    song = RenderedSong(job.songs / folder_name("song", "", seed))
    if not song.finished(job.seconds):
        render_song(seed, job.songs, job.seconds)
    return song


def _stems(job: Job, song: RenderedSong) -> tuple[Audio, Audio]:
    if job.source == "dry":
        return decode(str(song.vocal)), decode(str(song.accompaniment))
    stems = _separator()(decode(str(song.mix)))
    return stems.vocal, stems.accompaniment


def _codes(config: CodecConfig, audio: Audio) -> Codes:
    levelled, _ = level(audio, LoudnessConfig())
    codes: Codes = _codec(config.weights).encode(levelled)[0]
    return codes


@cache
def _codec(weights: str) -> codecs.Codec:
    return codecs.build(CodecConfig(weights=weights))


@cache
def _separator() -> separation.Separator:
    return separation.build(SeparationConfig())
