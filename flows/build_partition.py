"""One partition of a build: the stages and the shards of some batches, in a run of its own on any machine."""

import logging
from dataclasses import dataclass

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from pydantic import ConfigDict, Field

from flows.control import best_effort
from flows.engine.engine import open_engine
from flows.environment import show_our_logs
from flows.form import order
from flows.leaving import run_ends
from flows.shards import config_hash
from flows.stages.context import Context
from flows.tasks import Scope, write_shards
from flows.work import ALL_STAGES, BuildFailedError, Work, open_build, run_stages
from pipeline.errors import PipelineError
from pipeline.records.catalog import Catalog

logger = logging.getLogger(__name__)
# A flow run stays under 1,000 task runs: at 10,000 Prefect's default server lost 82 % of the rows, at 1,000 none
# (measured on 3.8.8). Ten stages and the shards of 80 batches are 880.
MOST_TASK_RUNS = 1000
MOST_BATCHES = 80
assert MOST_BATCHES * len(ALL_STAGES) < MOST_TASK_RUNS
WORKED = "backline.worked"  # label of a flow run: songs times stages worked on


class OtherSettingsError(PipelineError):
    """A partition's machine has other code, weights or settings than the build that started it."""


class PartitionParameters(Work):
    """Some batches of a build; the build fills this in."""

    model_config = ConfigDict(json_schema_extra=order("batches"))

    batches: list[int] = Field(
        min_length=1, max_length=MOST_BATCHES, description=f"Batches of the catalogue, {MOST_BATCHES} at most"
    )
    settings: str = Field(
        default="", description="Hash of the stage keys that must come out on this machine; empty = whatever comes out"
    )


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """What a partition did."""

    worked: int  # songs times stages worked on
    shards: int  # committed now or found


@flow(name="build-partition", persist_result=False, validate_parameters=True)
def build_partition(part: PartitionParameters) -> PartitionResult:
    """Stages and shards of batches that are catalogued. Skips what is committed; publishes nothing."""
    with run_ends():
        return work_on(part)


def work_on(part: PartitionParameters) -> PartitionResult:
    """What the flow does."""
    show_our_logs()
    context = open_build(part)
    check(context, part)
    with open_engine(part.engine, context.recipe.build) as engine:
        worked = run_stages(context, part, part.batches, engine, Scope.current())
    label(worked.songs)
    if worked.failures:
        raise BuildFailedError(f"{len(worked.failures)} tasks failed:\n" + "\n".join(worked.failures))
    sharded = [write_shards([batch], context) for batch in part.batches] if "shards" in part.stages else []
    return PartitionResult(worked.songs, sum(len(batch.sidecars) for group in sharded for batch in group))


def check(context: Context, part: PartitionParameters) -> None:
    """`OtherSettingsError` and `ValueError` before any work."""
    if part.settings not in ("", config_hash(context)):
        raise OtherSettingsError(
            f"the build has settings {part.settings}, this machine makes {config_hash(context)} of them: its recipe "
            "files, its weights or its version of Backline differ; bring them in line and retry this run"
        )
    if unknown := sorted(set(part.batches) - set(Catalog(context.root).batches())):
        raise ValueError(f"batches {unknown} are not in the catalogue under {part.root}; run build-dataset first")


def label(worked: int) -> None:
    """Tell the build that waits how much was done."""
    running = FlowRunContext.get()
    if running is not None and running.flow_run is not None:
        with best_effort("the partition's tally", retries=3), get_client(sync_client=True) as client:
            client.update_flow_run_labels(running.flow_run.id, {WORKED: worked})
