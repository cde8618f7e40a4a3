"""The build: a song library -> catalogue -> stages -> shards -> manifest, data card and report."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from prefect import flow
from pydantic import ConfigDict, Field

from flows.artifacts import progress_shown
from flows.build_partition import MOST_BATCHES
from flows.dataset import Dataset, publish
from flows.engine.engine import open_engine
from flows.environment import show_our_logs
from flows.fan_out import cancel_partitions, fan_out
from flows.form import order
from flows.funnel import failure_rate, funnel
from flows.grouping import STAGE as FINGERPRINT
from flows.leaving import run_ends
from flows.shards import ShardedBatch
from flows.stages.context import Context
from flows.status import note_build
from flows.tasks import Scope, catalogue, group, write_shards
from flows.work import BuildFailedError, Work, Worked, groups, open_build, run_stages
from pipeline.records.catalog import Catalog

logger = logging.getLogger(__name__)
NEEDS_SPLITS = {"selection", "augmentation", "tokenization", "tokenization-copies", "shards"}


class BuildParameters(Work):
    """Which songs, where to, and what of the build: it skips whatever is done."""

    model_config = ConfigDict(json_schema_extra=order("library", "root", "recipe", "limit", "stages", "only_batches"))

    library: str = Field(description="Folder, glob, or manifest (.txt, .csv, .parquet) of songs")
    only_batches: list[int] = Field(default=[], description="Batches to run; empty = all")
    limit: int = Field(
        default=0, ge=0, description="Only the first so many songs of the library, in a root of their own; 0 = all"
    )
    fan_out: str = Field(
        default="",
        description="Deployment that works on the batches, such as build-partition/pool; empty = this run does",
    )
    partition_batches: int = Field(
        default=MOST_BATCHES, ge=1, le=MOST_BATCHES, description="Batches in one run, where they are fanned out"
    )


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did."""

    worked: int  # songs times stages worked on; 0 = everything was committed before
    shards: int  # of the dataset, written now or found
    dataset: Dataset | None  # None where the shards stage was left out


@flow(name="build-dataset", persist_result=False, validate_parameters=True, on_cancellation=[cancel_partitions])
def build_dataset(build: BuildParameters) -> BuildResult:
    """Songs -> gated, separated, annotated, tokenized shards. Skips whatever the ledger says is committed."""
    with run_ends():
        show_our_logs()
        context = open_build(build)
        note_build(context)
        with progress_shown(context):
            return build_all(context, build)


def build_all(context: Context, build: BuildParameters) -> BuildResult:
    """What the flow does, once it is written down what it builds."""
    split = not NEEDS_SPLITS.isdisjoint(build.stages)
    batches = catalogue(context, build.library, split, build.limit)
    if unknown := sorted(set(build.only_batches) - set(batches.all)):
        raise ValueError(f"only_batches names {unknown}; the catalogue has {batches.all}")
    chosen = [b for b in batches.named if not build.only_batches or b in build.only_batches]
    worked = know_copies(context, build, batches.all[: max(chosen, default=-1) + 1], chosen)
    if split:
        group(context, max(chosen, default=-1) + 1)
    if later := [stage for stage in build.stages if stage != FINGERPRINT]:
        worked.add(work_on(context, build.model_copy(update={"stages": later}), chosen))
    check_failures(context, worked.failures)
    if "shards" not in build.stages:
        return BuildResult(worked.songs, 0, None)
    sharded = shard(context, batches.all)
    check_overtaken(context, batches.all)
    dataset = publish(context, [s for batch in sharded for s in batch.sidecars])
    say_what_happened(worked.songs, sharded)
    return BuildResult(worked.songs, sum(len(batch.sidecars) for batch in sharded), dataset)


def know_copies(context: Context, build: BuildParameters, before: Sequence[int], chosen: Sequence[int]) -> Worked:
    """Fingerprints of the chosen batches and of all before them, which their songs may be copies of."""
    worked = Worked()
    if FINGERPRINT in build.stages:
        first = build.model_copy(update={"stages": [FINGERPRINT]})
        worked.add(work_on(context, first, chosen))
        if others := sorted(set(before) - set(chosen)):
            worked.add(work_on(context, first.model_copy(update={"force": False}), others))
        if worked.failures:
            check_failures(context, worked.failures)
    return worked


def work_on(context: Context, build: BuildParameters, batches: Sequence[int]) -> Worked:
    """The chosen stages over these batches, in this process or in runs of a deployment."""
    if build.fan_out:
        return fan_out(build.fan_out, build, build.partition_batches, context, batches)
    return work_here(context, build, batches)


def work_here(context: Context, build: BuildParameters, batches: Sequence[int]) -> Worked:
    """The stages in this process; many batches in runs inside this one, since no run may have 1,000 task runs."""
    scope = Scope.current()
    with open_engine(build.engine, context.recipe.build) as engine:

        @flow(name="build-partition-here", persist_result=False)
        def partition(batches: list[int]) -> Worked:
            """A part of a build's run; on its Retry what finished is taken from the cache."""
            return run_stages(context, build, batches, engine, scope)

        if len(batches) <= MOST_BATCHES:
            return run_stages(context, build, batches, engine, scope)
        worked = Worked()
        for group in groups(batches, MOST_BATCHES):
            worked.add(partition.with_options(flow_run_name=f"batches-{group[0]}-{group[-1]}")(group))
    return worked


def shard(context: Context, batches: Sequence[int]) -> list[ShardedBatch]:
    """The shards of all batches: a task for each, or for many at once where there would be too many tasks."""
    size = 1 if len(batches) <= MOST_BATCHES else MOST_BATCHES
    return [batch for group in groups(batches, size) for batch in write_shards(group, context)]


def check_failures(context: Context, failures: Sequence[str]) -> None:
    """`BuildFailedError` where a batch failed, or more songs than the recipe allows."""
    if failures:
        raise BuildFailedError(
            f"{len(failures)} pieces failed; what succeeded is committed, run the build again:\n" + "\n".join(failures)
        )
    catalog = Catalog(context.root)
    songs = sum(len(catalog.read(batch)) for batch in catalog.batches())
    rate, limit = failure_rate(funnel(context), songs), context.recipe.build.failure_limit
    if rate > limit:
        raise BuildFailedError(
            f"{rate:.1%} of {songs} songs failed, the recipe allows {limit:.1%}; `backline why` tells each one's "
            "story; mend the cause and run the build again (failed songs alone are retried)"
        )


def check_overtaken(context: Context, batches: Sequence[int]) -> None:
    """`BuildFailedError` where another build added songs meanwhile: this one's list of shards would leave them out."""
    now = Catalog(context.root).batches()
    if now != list(batches):
        raise BuildFailedError(
            f"the catalogue grew from {len(batches)} to {len(now)} batches while this build ran, so another build adds "
            "songs; what this one did is committed: let the other one publish, or run this one again"
        )


def say_what_happened(worked: int, sharded: Sequence[ShardedBatch]) -> None:
    if worked == 0:
        logger.info("nothing to do: every stage of every song was committed before")
    logger.info("%d shards committed", sum(len(batch.sidecars) for batch in sharded))
