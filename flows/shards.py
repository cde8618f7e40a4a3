"""What a build keeps of its songs -> shard sets, manifest and data card of one dataset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256

from flows.engine.batch import catalog_of, committed, tracks_of
from flows.stages.context import Context, Rows
from flows.stages.graph import stage_keys
from flows.stages.samples import Draft, drafts_of
from pipeline.records.catalog import CatalogRow
from pipeline.records.files import Place
from pipeline.records.schema import SCHEMA_VERSION, SPLITS, Sample, SampleInfo
from pipeline.records.sharding import Sidecar, committed_shard, write_shard


@dataclass(frozen=True, slots=True)
class ShardedBatch:
    """The committed shards of one batch, one per shard set that has samples."""

    batch: int
    sidecars: tuple[Sidecar, ...]


def dataset_directory(root: Place, name: str) -> Place:
    return root / "datasets" / name


def config_hash(context: Context) -> str:
    """Names every setting that the samples depend on: the keys of all stages."""
    text = ",".join(f"{stage}={key}" for stage, key in context.keys.items())
    return sha256(text.encode()).hexdigest()[:16]


def shard_batch(context: Context, batch: int, directory: Place) -> ShardedBatch:
    """Write shard `batch` of every shard set that has samples; one committed from the same inputs stays, unread."""
    drafts = sorted(_drafts(context, batch), key=lambda draft: draft.info.key)

    @cache  # a song of both stages is read once; 256 songs of 4 minutes are 40 MB with recipe `paper`
    def sample(number: int) -> Sample:
        return drafts[number].sample()

    sidecars = []
    for name in SPLITS:
        mine = [number for number, draft in enumerate(drafts) if name in shard_sets(draft.info)]
        if mine:
            config = config_hash(context)
            inputs = inputs_sha256(config, [drafts[number] for number in mine])
            sidecars.append(
                committed_shard(directory, name, batch, inputs)
                or write_shard(directory, name, batch, map(sample, mine), config, inputs)
            )
    return ShardedBatch(batch, tuple(sidecars))


def inputs_sha256(config: str, drafts: Sequence[Draft]) -> str:
    """Names everything that the bytes of a shard follow from."""
    told = [f"{config} {SCHEMA_VERSION}", *(draft.identity for draft in drafts)]
    return sha256("\n".join(told).encode()).hexdigest()


def _drafts(context: Context, batch: int) -> Iterator[Draft]:
    for track, rows in tracks_of(context, batch):
        if _finished(rows):
            yield from drafts_of(context, track, context.split(track), rows)


def _finished(rows: Rows) -> bool:
    """Whether selection keeps the song under today's gate, and its codes are there."""
    return all(name in rows and rows[name].status == "ok" for name in ("selection", "tokenization"))


def shard_sets(info: SampleInfo) -> tuple[str, ...]:
    """Where a sample belongs: held-out songs once; train songs in stage 1, the selected ones and their copies in
    stage 2.
    """
    if info.split != "train":
        return (info.split,) if info.augmentation == "orig" else ()
    first = ("train-stage1",) if info.augmentation == "orig" else ()
    second = ("train-stage2",) if info.selection == "stage2" else ()
    return first + second


def tracks(context: Context) -> Iterator[tuple[CatalogRow, Rows]]:
    """Every catalogued track with its rows that are in force.

    A report may lay another recipe over a dataset's keys; what the dataset's own recipe admitted can't be told then,
    and every row at these keys is given.
    """
    rows = tracks_of if dict(context.keys) == stage_keys(context.recipe) else committed
    for batch in catalog_of(context.root).batches():
        yield from rows(context, batch)
