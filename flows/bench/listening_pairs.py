"""Songs as codes for the listening experiment, and the datasets of them: true pairs, and vocals paired at random.

Conventions: codes are uint16 ``[T]`` at 25 Hz of variant 0 and window phase 0; a pair has no text and no reference, so
that the vocal is all there is to listen to. All datasets name their pairs alike: a trainer, whose draws follow from
seed and place alone, shows every network the same accompaniments, crops and masks in the same order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.codec.codec import SAMPLES_PER_CODE
from pipeline.records.schema import CodecRecord, Sample, SampleInfo, VariantRecord
from pipeline.records.sharding import write_manifest, write_shard

Codes = NDArray[np.uint16]
PREFIX_WIDTH = 8  # of vectors that nobody gives
PAIRINGS = 4  # other songs' vocals for each accompaniment of a twin, lest it learns them by heart; ours
SHARD_SONGS = 256
CLEAN = (VariantRecord(filters=(), gain_db=0.0),)


@dataclass(frozen=True, slots=True)
class Pair:
    """One song."""

    name: str
    vocal: Codes
    accompaniment: Codes  # as long


def true_pairs(songs: Sequence[Pair]) -> Iterator[Pair]:
    """Each song `PAIRINGS` times."""
    for song in songs:
        for number in range(PAIRINGS):
            yield replace(song, name=f"{song.name}-{number}")


def random_pairs(songs: Sequence[Pair], seed: int) -> Iterator[Pair]:
    """Each accompaniment `PAIRINGS` times, with vocals of different other songs (of the same, where there are fewer),
    from a random place on and around their end.
    """
    if len(songs) < 2:
        raise ValueError(f"{len(songs)} songs can't be paired at random: give two or more")
    rng = np.random.default_rng(seed)
    for index, song in enumerate(songs):
        others = np.delete(np.arange(len(songs)), index)
        for number, other in enumerate(np.resize(rng.permutation(others), PAIRINGS)):
            vocal = fitted(songs[other].vocal, len(song.accompaniment), int(rng.integers(len(songs[other].vocal))))
            yield Pair(f"{song.name}-{number}", vocal, song.accompaniment)


def fitted(codes: Codes, length: int, start: int = 0) -> Codes:
    """The codes from `start` on, around the end, as often as it takes."""
    return codes[(start + np.arange(length)) % len(codes)]


def write_dataset(folder: Path, train: Iterator[Pair], val: Sequence[Pair], codec: CodecRecord, name: str) -> Path:
    """A dataset of ours, that `model.train` reads; the same pairs give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for split, pairs in (("train-stage1", list(train)), ("val", list(val))):
        samples = [sample(pair, split.partition("-")[0], codec) for pair in sorted(pairs, key=lambda pair: pair.name)]
        parts = (samples[first : first + SHARD_SONGS] for first in range(0, len(samples), SHARD_SONGS))
        shards += [write_shard(folder, split, number, part, name) for number, part in enumerate(parts)]
    write_manifest(folder, name, name, shards, {})
    return folder


def sample(pair: Pair, split: str, codec: CodecRecord) -> Sample:
    """A pair under the shard contract, without captions and reference windows."""
    tokens = len(pair.accompaniment)
    info = SampleInfo(
        key=pair.name, track_id=pair.name, uri="", licence="CC0", artist="", split=split, selection="stage1",
        selection_reasons=(), scores={}, sections=(), beats=(), downbeats=(), tempo=0.0, music_key="",
        vocal_active=(), captions=(), lyrics="", samples_48k=(tokens - 1) * SAMPLES_PER_CODE, tokens=tokens,
        augmentation="orig", vocal_gain_db=0.0, accompaniment_variants=CLEAN, reference_variants=CLEAN,
        reference_spans=(), codec=codec, backends=(),
    )  # fmt: skip
    return Sample(
        info=info,
        vocal=pair.vocal[None],
        accompaniment=pair.accompaniment[None, None],
        reference=np.zeros((1, 0, PREFIX_WIDTH), np.float16),
        text=np.zeros((0, PREFIX_WIDTH), np.float16),
    ).validate()


def code_counts(songs: Sequence[Pair], size: int) -> NDArray[np.int64]:
    """How often each code occurs in the accompaniments ``[size]``."""
    return sum((np.bincount(song.accompaniment, minlength=size) for song in songs), np.zeros(size, np.int64))


def load_codes(path: Path) -> Mapping[str, Codes]:
    """The named streams of one song."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
