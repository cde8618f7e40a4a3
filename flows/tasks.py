"""Prefect tasks of a build: a task is one stage over one batch, never one song.

Retry in the UI runs a stage over a batch again only where the ledger says that something is left to do: the ledger, not
Prefect, is the record. Tasks whose effects lie outside Prefect and are cheap to repeat are never taken from its cache.
"""

import logging
from typing import Any, cast
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE, CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.tasks import Task
from tqdm import tqdm

from flows.engine.batch import BatchSummary, wanted_items
from flows.engine.engine import Engine
from flows.engine.stems import run_batch_with_stems
from flows.shards import ShardedBatch, dataset_directory, shard_batch
from flows.stages.context import Context
from pipeline.errors import PipelineError
from pipeline.records.catalog import Catalog
from pipeline.records.ledger import Row
from pipeline.records.library import scan_library
from pipeline.records.splits import fix_splits

logger = logging.getLogger(__name__)
RETRIES = 2  # of a batch: disks and stores hiccup; ours
RETRY_SECONDS: list[float] = [2, 10]


def transient(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether another try could help: not where a model is missing or the input is refused."""
    try:
        state.result()
    except PipelineError:
        return False
    except Exception:  # noqa: BLE001  # any other failure may pass
        return True
    return False


def unless_work_is_left(run: TaskRunContext, parameters: dict[str, Any]) -> str | None:
    """One key for a stage and batch of a flow run; none on a Retry that finds songs without a settled row."""
    flow_run = FlowRunContext.get()
    if flow_run is None or flow_run.flow_run is None:
        return None
    stage, batch, context = parameters["stage"], parameters["batch"], parameters["context"]
    if flow_run.flow_run.run_count > 1 and unsettled(stage, context, batch):
        return None
    return f"{flow_run.flow_run.id}-{stage}-{context.keys[stage]}-{batch}"


def unsettled(stage: str, context: Context, batch: int) -> bool:
    """Whether a song that the stage is for has no row yet, or a failed one."""
    items = wanted_items(stage, context, batch)
    return any(stage not in item.rows or not item.rows[stage].settled for item in items)


@task(name="catalogue", persist_result=True, cache_policy=NO_CACHE)
def catalogue(context: Context, library: str, fix: bool) -> list[int]:
    """Add the library's files to the catalogue and, if asked, fix the splits; the batches that are there now."""
    catalog = Catalog(context.root)
    sources = scan_library(library)
    with tqdm(total=len(sources), desc="catalogue", unit="song", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        catalog.add(sources, context.recipe.library.batch_size, show)
    batches = catalog.batches()
    if fix:
        fix_splits(context.root, context.recipe.splits, [row for batch in batches for row in catalog.read(batch)])
    return batches


@task(
    name="stage",
    task_run_name="{stage}-{batch}",
    persist_result=True,
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=transient,
    cache_policy=CacheKeyFnPolicy(cache_key_fn=unless_work_is_left),
)
def run_stage(stage: str, batch: int, context: Context, force: bool, engine: Engine) -> BatchSummary:
    """One stage over one batch, with progress in the terminal and in the UI."""
    progress = Progress(stage, batch)
    try:
        summary = run_batch_with_stems(stage, context, batch, engine, force, progress)
    finally:
        progress.close()
    logger.info(
        "%s batch %d: %d wanted, %d worked on, %d ok, %d rejected, %d quarantined, %d failed",
        *(stage, batch, summary.wanted, summary.worked),
        *(summary.ok, summary.rejected, summary.quarantined, summary.failed),
    )
    return summary


@task(
    name="shards",
    task_run_name="shards-{batch}",
    persist_result=True,
    retries=RETRIES,
    retry_delay_seconds=RETRY_SECONDS,
    cache_policy=NO_CACHE,
)
def write_shards(batch: int, context: Context) -> ShardedBatch:
    """The shards of one batch."""
    return shard_batch(context, batch, dataset_directory(context.root, context.recipe.name))


class Progress:
    """A bar in the terminal and a progress artifact in the UI for one stage and batch."""

    def __init__(self, stage: str, batch: int) -> None:
        self.label, self.done = f"{stage} {batch}", 0
        self.bar: tqdm[Any] | None = None
        self.artifact: UUID | None = None

    def start(self, total: int) -> None:
        """`total` songs are going to be worked on."""
        self.bar = tqdm(total=total, desc=self.label, unit="song", disable=None)
        self.artifact = cast(UUID, create_progress_artifact(progress=0.0, description=self.label))

    def add(self, row: Row) -> None:
        self.done += 1
        if self.bar is not None:
            self.bar.update()
            step = max(1, (self.bar.total or 1) // 20)
            if self.artifact is not None and self.done % step == 0:
                update_progress_artifact(self.artifact, progress=100.0 * self.done / (self.bar.total or 1))

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
