"""What a build keeps of its songs -> shard sets, manifest and data card of one dataset."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from flows.engine.batch import rows_before
from flows.stages.context import Context, Rows
from flows.stages.samples import samples_of
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.ledger import Ledger
from pipeline.records.schema import SPLITS, Sample
from pipeline.records.sharding import Sidecar, write_shard


@dataclass(frozen=True, slots=True)
class ShardedBatch:
    """The committed shards of one batch, one per shard set that has samples."""

    batch: int
    sidecars: tuple[Sidecar, ...]


def dataset_directory(root: Path, name: str) -> Path:
    return root / "datasets" / name


def config_hash(context: Context) -> str:
    """Names every setting that the samples depend on: the keys of all stages."""
    text = ",".join(f"{stage}={key}" for stage, key in context.keys.items())
    return sha256(text.encode()).hexdigest()[:16]


def shard_batch(context: Context, batch: int, directory: Path) -> ShardedBatch:
    """Write shard `batch` of every shard set that has samples; a committed shard with the same content stays as it
    is.
    """
    sidecars = []
    for name in SPLITS:
        samples = sorted(_samples(context, batch, name), key=lambda sample: sample.info.key)
        if samples:
            sidecars.append(write_shard(directory, name, batch, samples, config_hash(context)))
    return ShardedBatch(batch, tuple(sidecars))


def _samples(context: Context, batch: int, name: str) -> Iterator[Sample]:
    catalog = Catalog(context.root)
    rows = rows_before(Ledger(context.root), context, batch)
    for track in catalog.read(batch):
        mine = rows.get(track.track_id, {})
        if _finished(mine):
            split = context.split(track)
            yield from (s for s in samples_of(context, track, split, mine) if name in shard_sets(s, split))


def _finished(rows: Rows) -> bool:
    """Whether selection keeps the song under today's gate, and its codes are there."""
    return all(name in rows and rows[name].status == "ok" for name in ("selection", "tokenization"))


def shard_sets(sample: Sample, split: str) -> tuple[str, ...]:
    """Where a sample belongs: held-out songs once; train songs in stage 1, the selected ones and their copies in
    stage 2.
    """
    if split != "train":
        return (split,) if sample.info.augmentation == "orig" else ()
    first = ("train-stage1",) if sample.info.augmentation == "orig" else ()
    second = ("train-stage2",) if sample.info.selection == "stage2" else ()
    return first + second


def tracks(context: Context) -> Iterator[tuple[CatalogRow, Rows]]:
    """Every catalogued track with its rows at this recipe's keys."""
    catalog, ledger = Catalog(context.root), Ledger(context.root)
    for batch in catalog.batches():
        rows = rows_before(ledger, context, batch)
        for track in catalog.read(batch):
            yield track, rows.get(track.track_id, {})
