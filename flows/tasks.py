"""Prefect tasks of a build: a task is one stage over one batch, never one song.

Retry in the UI runs a stage over a batch again only where the ledger says that something is left to do: the ledger, not
Prefect, is the record. Tasks whose effects lie outside Prefect and are cheap to repeat are never taken from its cache.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast
from uuid import UUID

from prefect import runtime, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.tasks import Task
from tqdm import tqdm

from flows.control import best_effort
from flows.engine.batch import BatchSummary, wanted_items
from flows.engine.engine import Engine
from flows.engine.stems import run_batch_with_stems
from flows.grouping import group_songs
from flows.shards import ShardedBatch, dataset_directory, shard_batch
from flows.slots import gpu_slot
from flows.stages.context import Context
from pipeline.errors import PipelineError
from pipeline.records.catalog import Catalog
from pipeline.records.ledger import Row
from pipeline.records.library import scan_library
from pipeline.records.splits import check_splits

logger = logging.getLogger(__name__)
RETRIES = 2  # of a batch: disks and stores hiccup; ours
RETRY_SECONDS: list[float] = [2, 10]
AWAY_SECONDS = 60.0  # that a server which did not answer is left alone; ours
SHOW_SECONDS = 5.0  # between two calls that tell the UI how far a batch is: each makes a client of its own; ours


def transient(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether another try could help: not where a model is missing or the input is refused."""
    try:
        state.result()
    except PipelineError:
        return False
    except Exception:  # noqa: BLE001  # any other failure may pass
        return True
    return False


@dataclass(frozen=True, slots=True)
class Scope:
    """The flow run whose finished tasks need not run again on its Retry; parts of it in this process share it."""

    run: str = ""  # id; empty = none, nothing is cached
    again: bool = False  # whether this is a Retry

    @classmethod
    def current(cls) -> Self:
        """The flow run that this is called in."""
        running = FlowRunContext.get()
        if running is None or running.flow_run is None:
            return cls()
        return cls(str(running.flow_run.id), running.flow_run.run_count > 1)


def unless_work_is_left(run: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """One key for a stage and batch of a flow run; none on a Retry that finds songs without a settled row."""
    stage, batch, context, scope = (parameters[name] for name in ("stage", "batch", "context", "scope"))
    if not scope.run or (scope.again and unsettled(stage, context, batch)):
        return None
    return f"{scope.run}-{stage}-{context.keys[stage]}-{batch}"


def unsettled(stage: str, context: Context, batch: int) -> bool:
    """Whether a song that the stage is for has no row yet, or a failed one."""
    items = wanted_items(stage, context, batch)
    return any(stage not in item.rows or not item.rows[stage].settled for item in items)


@dataclass(frozen=True, slots=True)
class Batches:
    """The catalogue of a build."""

    all: list[int]
    named: list[int]  # those that hold songs of this library; of its first `limit`


@task(name="catalogue", persist_result=True, cache_policy=NO_CACHE)
def catalogue(context: Context, library: str, split: bool, limit: int = 0) -> Batches:
    """Add the library's files (the first `limit`, 0 = all); `split`: see that they can be split as the recipe asks."""
    catalog = Catalog(context.root)
    found = scan_library(library)
    sources = found[:limit] if limit else found
    with tqdm(total=len(sources), desc="catalogue", unit="song", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        catalog.add(sources, context.recipe.library.batch_size, show)
    batches = catalog.batches()
    if split:
        check_splits(context.root, context.recipe.splits, catalog.rows())
    if not limit:
        return Batches(batches, batches)
    uris = {source.uri for source in sources}
    named = [b for b in batches if any(not uris.isdisjoint(row.uris) for row in catalog.read(b))]
    return Batches(batches, named)


@task(name="groups", persist_result=True, cache_policy=NO_CACHE)
def group(context: Context, batches: int) -> None:
    """Find copies among the songs of the first so many batches, and fix the splits."""
    group_songs(context, batches)


@task(
    name="stage",
    task_run_name="{stage}-{batch}",
    persist_result=True,
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=transient,
    cache_policy=CacheKeyFnPolicy(cache_key_fn=unless_work_is_left),
)
def run_stage(stage: str, batch: int, context: Context, force: bool, engine: Engine, scope: Scope) -> BatchSummary:
    """One stage over one batch, with progress in the terminal and in the UI."""
    progress = Progress(stage, batch)
    try:
        with gpu_slot(stage, context.recipe):
            summary = run_batch_with_stems(stage, context, batch, engine, force, progress)
    finally:
        progress.close()
    logger.info(
        "%s batch %d: %d wanted, %d worked on, %d ok, %d rejected, %d quarantined, %d failed",
        *(stage, batch, summary.wanted, summary.worked),
        *(summary.ok, summary.rejected, summary.quarantined, summary.failed),
    )
    return summary


def name_of_shards() -> str:
    """``shards-7``, or ``shards-0-79``"""
    batches = runtime.task_run.parameters["batches"]
    return "-".join(["shards", *(str(batch) for batch in dict.fromkeys((batches[0], batches[-1])))])


@task(
    name="shards",
    task_run_name=name_of_shards,
    persist_result=True,
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    cache_policy=NO_CACHE,
)
def write_shards(batches: Sequence[int], context: Context) -> list[ShardedBatch]:
    """The shards of some batches, at least one."""
    directory = dataset_directory(context.root, context.recipe.name)
    return [shard_batch(context, batch, directory) for batch in batches]


class Progress:
    """A bar in the terminal and, where the work takes longer, a progress artifact in the UI for one stage and batch."""

    def __init__(self, stage: str, batch: int) -> None:
        self.label, self.done = f"{stage} {batch}", 0
        self.bar: tqdm[Any] | None = None
        self.artifact: UUID | None = None
        self.due = 0.0  # when the UI is told next

    def start(self, total: int) -> None:
        """`total` songs are going to be worked on."""
        self.bar = tqdm(total=total, desc=self.label, unit="song", disable=None)
        self.due = time.monotonic() + SHOW_SECONDS

    def add(self, row: Row) -> None:
        self.done += 1
        if self.bar is not None:
            self.bar.update()
            if time.monotonic() > self.due:
                self.show(100.0 * self.done / (self.bar.total or 1))

    def show(self, percent: float) -> None:
        """In the UI; a server that is away or busy is left alone for a while."""
        self.due = time.monotonic() + AWAY_SECONDS
        with best_effort("a progress artifact"):
            if self.artifact is None:
                self.artifact = cast(UUID, create_progress_artifact(progress=percent, description=self.label))
            else:
                update_progress_artifact(self.artifact, progress=percent)
            self.due = time.monotonic() + SHOW_SECONDS

    def close(self) -> None:
        if self.artifact is not None and self.bar is not None:
            self.show(100.0 * self.done / (self.bar.total or 1))
        if self.bar is not None:
            self.bar.close()
