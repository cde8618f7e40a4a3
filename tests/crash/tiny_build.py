"""A build of a few tiny songs without Prefect, from catalogue to manifest, and what came of it."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.bench.tiny import write_song
from flows.engine.attempt import Item, attempt
from flows.engine.engine import OnRow
from flows.engine.local import LocalEngine
from flows.engine.stems import run_batch_with_stems
from flows.recipe import load_recipe
from flows.shards import config_hash, dataset_directory, shard_batch
from flows.stages.context import Context
from flows.stages.graph import NODES, stage_keys
from pipeline.records import files
from pipeline.records.catalog import Catalog
from pipeline.records.files import Place
from pipeline.records.ledger import Ledger, Row
from pipeline.records.leftovers import collect
from pipeline.records.library import Source
from pipeline.records.sharding import read_manifest, read_shard, remove_unlisted, write_manifest
from pipeline.records.splits import SplitConfig, fix_splits
from pipeline.records.verify import verify_root

SPLITS = ("train", "val", "train", "test")
NO_HELD_OUT = SplitConfig(min_val=0, min_test=0, val_fraction=0, test_fraction=0)  # the library says who is
SETTINGS = ("rehearsal.results={rejected: 0.0, quarantined: 0.1}", "augmentation.copies.share=1.0")


@dataclass(frozen=True, slots=True)
class Job:
    """What to build, and where."""

    root: str
    library: str
    settings: tuple[str, ...] = ()
    batch_size: int = 2


class Here:
    """An engine without processes: what dies in a stage is the build."""

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        rows = []
        for item in items:
            rows.append(attempt(counted(worker), context, item))
            on_row(rows[-1])
        return rows

    def close(self) -> None: ...


class InPool(LocalEngine):
    """The local engine, its workers counted."""

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        return super().run(counted(worker), context, items, on_row)


def counted(worker: str) -> str:
    return f"counted:{worker.partition(':')[2]}"


class Silent:
    def start(self, total: int) -> None: ...

    def add(self, row: Row) -> None: ...


def write_library(folder: Path, count: int) -> None:
    """Songs of 20 ms, `train`, `val` or `test` by their number."""
    noise = np.random.default_rng(0).integers(-8000, 8000, 320, np.int16)
    for number in range(count):
        write_song(folder / f"{number:04d}.wav", noise, 0, number)


def sources(library: str) -> list[Source]:
    paths = sorted(Path(library).glob("*.wav"))
    return [Source(str(path), split=SPLITS[number % len(SPLITS)]) for number, path in enumerate(paths)]


def context_of(job: Job) -> Context:
    recipe = load_recipe("demo", [*SETTINGS, *job.settings])
    return Context(files.place(job.root), recipe, stage_keys(recipe))


class SongsFailedError(RuntimeError):
    """As `BuildFailedError`."""


def build(job: Job, engine: Here | LocalEngine | None = None) -> None:
    """As `build_dataset` does it, with no failure allowed."""
    context = context_of(job)
    files.prepare(context.root)
    catalog = Catalog(context.root)
    catalog.add(sources(job.library), job.batch_size)
    rows = [row for batch in catalog.batches() for row in catalog.read(batch)]
    fix_splits(context.root, NO_HELD_OUT, rows)
    for batch in catalog.batches():
        for stage in NODES:
            summary = run_batch_with_stems(stage, context, batch, engine or Here(), False, Silent())
            if summary.failed:
                raise SongsFailedError(f"{summary}")
    directory = dataset_directory(context.root, context.recipe.name)
    sidecars = [s for batch in catalog.batches() for s in shard_batch(context, batch, directory).sidecars]
    write_manifest(directory, context.recipe.name, config_hash(context), sidecars, context.keys)
    remove_unlisted(directory)


def outcome(root: Place) -> dict[str, object]:
    """What a build left, after gc: equal for equal builds. Nothing may be wrong with it."""
    wrong = [str(problem) for problem in verify_root(root)]
    collect(root, lease_hours=0)
    wrong += [str(problem) for problem in verify_root(root)]
    kept = [entry.name for entry in files.tree(root) if not entry.name.endswith(".parquet")]
    digests = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in kept}
    return {
        "wrong": wrong,
        "files": digests,
        "samples": samples(root),
        "batches": batches(root),
        "rows": rows_of(root),
    }


def rows_of(root: Place) -> dict[str, dict[str, list[object]]]:
    """What the ledger says of every stage and song, but for what differs from run to run."""
    ledger = Ledger(root)
    return {
        f"{stage}-{key}": {
            track: [row.status, row.reason, row.values, [artefact.path for artefact in row.artefacts]]
            for track, row in ledger.all_rows(stage, key).items()
        }
        for stage, key in ledger.stages()
    }


def samples(root: Place) -> dict[str, int]:
    """Shard set and key -> how often the listed shards hold it."""
    directory = next(root / "datasets" / entry.name for entry in files.entries(root / "datasets"))
    found: Counter[str] = Counter()
    for shard in read_manifest(directory).shards:
        found.update(f"{shard.split} {sample.info.key}" for sample in read_shard(directory / shard.file, shard))
    return dict(found)


def batches(root: Place) -> list[list[str]]:
    catalog = Catalog(root)
    return [[row.track_id for row in catalog.read(batch)] for batch in catalog.batches()]


def worked(log: Path) -> int:
    """Songs that workers began, over all stages and all builds that wrote to this log."""
    return len(log.read_text().splitlines()) if log.exists() else 0
