"""Reading and writing shards, paired in one run with plain `webdataset` on the same samples.

Conventions: a round reads (writes) everything once with ours and once with theirs, the one that begins changing from
round to round; a ratio is theirs over ours in time, so 1 is as fast and 2 is twice as fast. Reading is a whole pass:
opening, every array and every record decoded; ours also validates each sample against the contract. Writing is one
shard: ours validates, hashes, syncs and commits, theirs writes a tar of ready dictionaries. Intervals are Student's t
on the logarithms of the rounds' ratios, 95 %.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from scipy import stats

from model.shards import ShardSamples
from pipeline.codec.codec import token_count
from pipeline.records.schema import (
    CODEBOOK_SIZE,
    BackendRecord,
    CodecRecord,
    FilterRecord,
    Sample,
    SampleInfo,
    SectionRecord,
    VariantRecord,
)
from pipeline.records.sharding import write_manifest, write_shard

READ_RATIO, WRITE_RATIO = 0.95, 0.7  # the interval's lower end must reach them, in CPU time
SPLIT = "train-stage1"
WIDTH = 384  # of the embedded conditioner's vectors
VARIANTS = 4  # frequency-balanced copies, as the recipe `paper` makes them


@dataclass(frozen=True, slots=True)
class Ratio:
    """How fast ours is, as a multiple of theirs."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Compared:
    """One kind of work, timed side by side."""

    what: str  # read, write
    rounds: int
    samples: int
    tokens: int  # codes of all streams and variants in one round
    megabytes: float
    ours_cpu: float  # s, median round
    theirs_cpu: float
    ours_wall: float
    theirs_wall: float
    cpu: Ratio
    wall: Ratio
    demanded: float  # of the lower end, in CPU time

    @property
    def passed(self) -> bool:
        return self.cpu.low >= self.demanded


def compare(folder: Path, samples: int, shards: int, seconds: float, rounds: int) -> list[Compared]:
    """Both kinds of work, on `shards` shards of `samples` songs of `seconds` s."""
    songs = [song(number, seconds) for number in range(samples * shards)]
    groups = [songs[at : at + samples] for at in range(0, len(songs), samples)]
    ready = [members(one) for one in groups[0]]
    dataset, plain = folder / "ours", folder / "theirs"
    plain.mkdir(parents=True)
    sidecars = [write_shard(dataset, SPLIT, number, group, "bench") for number, group in enumerate(groups)]
    write_manifest(dataset, "bench", "bench", sidecars, {})
    tars = [str(dataset / sidecar.file) for sidecar in sidecars]
    numbers = iter(range(shards, 10**9))

    def write_ours() -> None:
        path = folder / "written" / str(next(numbers))
        write_shard(path, SPLIT, 0, groups[0], "bench")

    def write_theirs() -> None:
        write_plain(plain / f"{next(numbers)}.tar", ready)

    size = sum(sidecar.bytes for sidecar in sidecars)
    codes = [sum(s.vocal.size + s.accompaniment.size for s in group) for group in groups]
    return [
        _compared("read", READ_RATIO, rounds, samples * shards, sum(codes), size)(
            lambda: read_ours(dataset), lambda: read_plain(tars)
        ),
        _compared("write", WRITE_RATIO, rounds, samples, codes[0], sidecars[0].bytes)(write_ours, write_theirs),
    ]


def read_ours(dataset: Path) -> int:
    """One pass; the codes seen."""
    return sum(s.vocal.size + s.accompaniment.size for s in ShardSamples(dataset, SPLIT, cache_bytes=0))


def read_plain(tars: Sequence[str]) -> int:
    """The same as webdataset's documentation has it."""
    import webdataset

    samples = webdataset.WebDataset(list(tars), shardshuffle=False).decode()
    return sum(sample["vocal.npy"].size + sample["accompaniment.npy"].size for sample in samples)


def write_plain(path: Path, samples: Sequence[Mapping[str, Any]]) -> None:
    """The same as webdataset's documentation has it."""
    import webdataset

    with webdataset.TarWriter(str(path)) as writer:
        for sample in samples:
            writer.write(sample)


def members(sample: Sample) -> dict[str, Any]:
    """A sample as webdataset's writer takes it."""
    arrays = {f"{name}.npy": getattr(sample, name) for name in ("vocal", "accompaniment", "reference", "text")}
    return {"__key__": sample.info.key, "json": asdict(sample.info), **arrays}


def _compared(
    what: str, demanded: float, rounds: int, samples: int, tokens: int, size: int
) -> Callable[[Callable[[], object], Callable[[], object]], Compared]:
    def run(ours: Callable[[], object], theirs: Callable[[], object]) -> Compared:
        cpu, wall = rounds_of(ours, theirs, rounds)
        (ours_cpu, theirs_cpu), (ours_wall, theirs_wall) = np.median(cpu, axis=0), np.median(wall, axis=0)
        return Compared(
            *(what, rounds, samples, tokens, size / 1e6),
            *(float(ours_cpu), float(theirs_cpu), float(ours_wall), float(theirs_wall)),
            *(ratio(cpu), ratio(wall), demanded),
        )

    return run


def rounds_of(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(ours, theirs) in CPU and in wall seconds of every round, after one that does not count."""
    cpu, wall = [], []
    for number in range(-1, rounds):
        first, second = (ours, theirs) if number % 2 else (theirs, ours)
        a, b = timed(first), timed(second)
        mine, other = (a, b) if number % 2 else (b, a)
        if number >= 0:
            cpu.append((mine[0], other[0]))
            wall.append((mine[1], other[1]))
    return cpu, wall


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def ratio(rounds: Sequence[tuple[float, float]]) -> Ratio:
    """Theirs over ours: geometric mean and 95 % interval; a single round has no interval (NaN)."""
    logs = np.log([theirs / ours for ours, theirs in rounds])
    middle, spread = float(np.mean(logs)), math.nan
    if len(logs) > 1:
        spread = float(stats.t.ppf(0.975, len(logs) - 1) * np.std(logs, ddof=1) / math.sqrt(len(logs)))
    return Ratio(math.exp(middle), math.exp(middle - spread), math.exp(middle + spread))


def to_json(compared: Compared) -> str:
    return json.dumps(asdict(compared) | {"passed": compared.passed})


def song(number: int, seconds: float) -> Sample:
    """A train song with everything that a real one has; all of it follows from the number and the length."""
    rng, samples = np.random.default_rng(number), round(seconds * 48_000)
    tokens, references = token_count(samples), max(1, int(seconds / 10.24))
    balanced = VariantRecord((FilterRecord("bass", 3.5, 120.0, 0.7),), -4.25)
    variants = (VariantRecord((), -3.0), *[balanced] * VARIANTS)
    beats = tuple(np.arange(0.0, seconds, 0.5).round(3).tolist())
    info = SampleInfo(
        key=f"{number:032x}-orig", track_id=f"{number:032x}", uri=f"songs/{number}.flac", licence="CC0-1.0",
        artist=f"artist {number % 7}", split="train", selection="stage2", selection_reasons=(),
        scores=dict.fromkeys(("level", "noise", "band", "clip", "wide", "mean"), 4.0),
        sections=(SectionRecord(0.0, seconds / 2, "verse"), SectionRecord(seconds / 2, seconds, "chorus")),
        beats=beats, downbeats=beats[::4], tempo=120.0, music_key="C major", vocal_active=((0.0, seconds),),
        captions=("calm rock",), lyrics="", samples_48k=samples, tokens=tokens, augmentation="orig",
        vocal_gain_db=1.5, accompaniment_variants=variants, reference_variants=variants,
        reference_spans=tuple((10.24 * i, 10.24 * (i + 1)) for i in range(references)),
        codec=CodecRecord(0, 0, 1, 0),
        backends=tuple(BackendRecord(name, "bench", "", "MIT") for name in ("detection", "quality", "separation")),
    )  # fmt: skip
    return Sample(
        info=info,
        vocal=rng.integers(0, CODEBOOK_SIZE, (1, tokens), dtype=np.uint16),
        accompaniment=rng.integers(0, CODEBOOK_SIZE, (len(variants), 1, tokens), dtype=np.uint16),
        reference=rng.normal(size=(len(variants), references, WIDTH)).astype(np.float16),
        text=rng.normal(size=(1, WIDTH)).astype(np.float16),
    )


def table_of(found: Sequence[Compared]) -> Table:
    """One row for each kind of work."""
    table = Table("", "songs", "MB", "ours, CPU s", "theirs", "times as fast [95 %]", "by wall time", "demanded", "")
    for one in found:
        table.add_row(
            *(one.what, f"{one.samples}", f"{one.megabytes:.0f}", f"{one.ours_cpu:.3f}", f"{one.theirs_cpu:.3f}"),
            *(in_words(one.cpu), in_words(one.wall), f"{one.demanded:g}", "" if one.passed else "missed"),
        )
    return table


def in_words(found: Ratio) -> str:
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
