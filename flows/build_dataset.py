"""The build: a song library -> catalogue -> stages -> shards -> manifest, data card and report."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.dataset import Dataset, publish
from flows.engine.batch import BatchSummary
from flows.engine.engine import Engine, open_engine
from flows.environment import show_our_logs
from flows.funnel import failure_rate, funnel
from flows.recipe import load_recipe
from flows.shards import ShardedBatch
from flows.stages.context import Context
from flows.stages.graph import NODES, stage_keys
from flows.tasks import catalogue, run_stage, write_shards
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.records import files
from pipeline.records.catalog import Catalog

logger = logging.getLogger(__name__)
StageName = Literal[
    "detection",
    "quality",
    "separation",
    "artifacts",
    "structure",
    "annotation",
    "selection",
    "augmentation",
    "tokenization",
    "tokenization-copies",
    "shards",
]
ALL_STAGES: list[StageName] = list(get_args(StageName))
NEEDS_SPLITS = {"augmentation", "tokenization", "tokenization-copies", "shards"}


class BuildFailedError(PipelineError):
    """Batches or too many songs failed; what succeeded is committed, and the next build goes on from there."""


class BuildParameters(Config):
    """What a build takes; the run form in the UI shows these."""

    recipe: str = Field(
        default="demo", description="A shipped recipe (demo, paper, upstream) or the path of a YAML file"
    )
    library: str = Field(description="Folder, glob, or manifest (.txt, .csv, .parquet) of songs")
    root: str = Field(
        description="Where the ledger, the stems and the datasets are kept: a folder, or s3://bucket/prefix"
    )
    stages: list[StageName] = Field(default=ALL_STAGES, description="Stages to run, to rerun single steps")
    only_batches: list[int] = Field(default=[], description="Batches to run; empty = all")
    force: bool = Field(default=False, description="Run the chosen stages again even where they are committed")
    overrides: list[str] = Field(default=[], description="Settings laid over the recipe: section.key=value")


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build did."""

    worked: int  # songs times stages worked on; 0 = everything was committed before
    shards: int  # of the dataset, written now or found
    dataset: Dataset | None  # None where the shards stage was left out


@flow(
    name="build-dataset",
    persist_result=False,
    validate_parameters=True,
    task_runner=ThreadPoolTaskRunner(max_workers=1),  # type: ignore[arg-type]  # songs are spread inside a task
)
def build_dataset(build: BuildParameters) -> BuildResult:
    """Songs -> gated, separated, annotated, tokenized shards. Skips whatever the ledger says is committed."""
    show_our_logs()
    context = open_build(build)
    batches = catalogue(context, build.library, fix=not NEEDS_SPLITS.isdisjoint(build.stages))
    chosen = [b for b in batches if not build.only_batches or b in build.only_batches]
    if unknown := sorted(set(build.only_batches) - set(batches)):
        raise ValueError(f"only_batches names {unknown}; the catalogue has {batches}")
    with open_engine("local", context.recipe.build) as engine:
        summaries, failures = run_stages(context, build, chosen, engine)
    check_failures(context, failures)
    worked = sum(summary.worked for summary in summaries)
    if "shards" not in build.stages:
        return BuildResult(worked, 0, None)
    sharded = [write_shards(batch, context) for batch in batches]
    dataset = publish(context, [s for batch in sharded for s in batch.sidecars])
    say_what_happened(worked, sharded)
    return BuildResult(worked, sum(len(batch.sidecars) for batch in sharded), dataset)


def open_build(build: BuildParameters) -> Context:
    """The recipe read once, with the keys of its stages."""
    recipe = load_recipe(build.recipe, build.overrides)
    root = files.place(build.root)
    files.prepare(root)
    return Context(root, recipe, stage_keys(recipe))


def run_stages(
    context: Context, build: BuildParameters, batches: Sequence[int], engine: Engine
) -> tuple[list[BatchSummary], list[str]]:
    """Every chosen stage over every chosen batch; a batch that fails stops its own later stages, no other batch's."""
    futures: dict[tuple[str, int], PrefectFuture[Any]] = {}
    plan = [(name, batch) for name in NODES if name in build.stages for batch in batches]
    if context.recipe.build.keep_stems != "all":
        plan.sort(key=lambda step: step[1])  # batch after batch: the stems of one are gone before the next one's come
    for stage, batch in plan:
        before = [future for (_, b), future in futures.items() if b == batch]
        futures[stage, batch] = run_stage.submit(
            stage, batch, context, build.force, engine, wait_for=before, return_state=False
        )
    summaries, failures = [], []
    for (name, batch), future in futures.items():
        future.wait()
        if future.state.is_completed():
            summaries.append(future.result())
        else:
            failures.append(f"{name} batch {batch}: {story_of(future.state)}")
    return summaries, failures


def story_of(state: State[Any]) -> str:
    """Why a task did not complete, in one line."""
    return f"{state.name}: {state.message or 'no message'}".splitlines()[0]


def check_failures(context: Context, failures: Sequence[str]) -> None:
    """`BuildFailedError` where a batch failed, or more songs than the recipe allows."""
    if failures:
        raise BuildFailedError(
            f"{len(failures)} tasks failed; what succeeded is committed, run the build again:\n" + "\n".join(failures)
        )
    catalog = Catalog(context.root)
    songs = sum(len(catalog.read(batch)) for batch in catalog.batches())
    rate, limit = failure_rate(funnel(context), songs), context.recipe.build.failure_limit
    if rate > limit:
        raise BuildFailedError(
            f"{rate:.1%} of {songs} songs failed, the recipe allows {limit:.1%}; `backline why` tells each one's "
            "story; mend the cause and run the build again (failed songs alone are retried)"
        )


def say_what_happened(worked: int, sharded: Sequence[ShardedBatch]) -> None:
    if worked == 0:
        logger.info("nothing to do: every stage of every song was committed before")
    logger.info("%d shards committed", sum(len(batch.sidecars) for batch in sharded))
