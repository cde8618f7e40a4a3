"""What a run of the build works on, and how it goes through its stages: shared by whole builds and by partitions."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Literal, cast, get_args

from prefect.client.schemas.objects import State
from prefect.utilities.annotations import quote
from pydantic import Field

from flows.engine.engine import Engine, EngineName, concurrent_batches
from flows.recipe import load_recipe
from flows.requirements import pinned, require_weights
from flows.stages.context import Context
from flows.stages.graph import NODES, lineage, stage_keys
from flows.tasks import Scope, run_stage
from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.records import files

StageName = Literal[
    "fingerprint",
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
Step = tuple[str, int]  # stage, batch
TOGETHER = 8  # batches: a model is loaded for 2,048 songs, and the rows of earlier stages are still in memory; ours

STORY = 500  # characters of a failure's story; its run has all of it


class BuildFailedError(PipelineError):
    """Batches or too many songs failed; what succeeded is committed, and the next build goes on from there."""


class Work(Config):
    """What both a build and a partition take."""

    recipe: str = Field(
        default="demo", description="A shipped recipe (demo, paper, upstream) or the path of a YAML file"
    )
    root: str = Field(
        description="Where the ledger, the stems and the datasets are kept: a folder, or s3://bucket/prefix"
    )
    stages: list[StageName] = Field(default=ALL_STAGES, description="Stages to run, to rerun single steps")
    force: bool = Field(default=False, description="Run the chosen stages again even where they are committed")
    engine: EngineName = Field(
        default="local", description="Who works on the songs: processes of this machine, or a Ray cluster"
    )
    overrides: list[str] = Field(default=[], description="Settings laid over the recipe: section.key=value")


@dataclass(slots=True)
class Worked:
    """What became of the stages of some batches."""

    songs: int = 0  # songs times stages worked on now
    failures: list[str] = field(default_factory=list)  # one line each

    def add(self, other: "Worked") -> None:
        self.songs += other.songs
        self.failures += other.failures


def open_build(work: Work) -> Context:
    """The recipe read once, its weights pinned, with the keys of its stages.

    `BackendUnavailable` where nobody knows which weights the chosen stages, or those that they read, are made with.
    """
    recipe = pinned(load_recipe(work.recipe, work.overrides))
    chosen = NODES if "shards" in work.stages else lineage(*work.stages)
    require_weights([section for stage in chosen for section in NODES[stage].sections], recipe)
    root = files.place(work.root)
    files.prepare(root)
    return Context(root, recipe, stage_keys(recipe))


def run_stages(context: Context, work: Work, batches: Sequence[int], engine: Engine, scope: Scope) -> Worked:
    """Every chosen stage over every batch; a batch that fails stops its own later stages, no other batch's.

    As many batches are under way at once as keep the engine busy. With one, a stage goes over `TOGETHER` batches before
    the next stage does, so that its model is loaded once for them, unless stems are let go on the way.
    """
    names, at_once = [name for name in NODES if name in work.stages], concurrent_batches(work.engine)
    together = TOGETHER if at_once == 1 and context.recipe.build.keep_stems == "all" else 1
    lanes = [[(name, batch) for name in names for batch in group] for group in groups(batches, together)]
    worked, stop = Worked(), Event()

    def run(lane: Sequence[Step]) -> Worked:
        return run_lane(lane, context, work, engine, scope, stop)

    if at_once == 1:
        for lane in lanes:
            worked.add(run(lane))
        return worked
    pool = ThreadPoolExecutor(at_once)
    try:
        for future in [pool.submit(copy_context().run, run, lane) for lane in lanes]:
            worked.add(future.result())
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return worked


def run_lane(lane: Sequence[Step], context: Context, work: Work, engine: Engine, scope: Scope, stop: Event) -> Worked:
    """One step after the other until `stop`; of a batch that failed, no further ones."""
    worked, failed = Worked(), set[int]()
    hidden = cast(Context, quote(context))  # Prefect would look for futures in every setting, three times a task
    for stage, batch in lane:
        if stop.is_set():
            break
        if batch in failed:
            continue
        state: State[Any] = run_stage(stage, batch, hidden, work.force, engine, scope, return_state=True)
        if state.is_completed():
            worked.songs += state.result().worked
        else:
            failed.add(batch)
            worked.failures.append(f"{stage} batch {batch}: {story_of(state)}")
    return worked


def groups(batches: Sequence[int], size: int) -> list[list[int]]:
    """`size` of them at a time."""
    return [list(batches[begin : begin + size]) for begin in range(0, len(batches), size)]


def story_of(state: State[Any]) -> str:
    """Why a run did not complete, in one line."""
    told = re.sub("^(Task|Flow) run encountered an exception:? ", "", state.message or "no message")
    return f"{state.name}: {' '.join(told.split())}"[:STORY]
