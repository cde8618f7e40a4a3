"""Partitions of a build as runs of their own on a work pool: started, waited for, and on a Retry those that failed
started again.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelling

from flows.build_partition import WORKED, PartitionParameters
from flows.control import POLL_SECONDS, patiently
from flows.shards import config_hash
from flows.stages.context import Context
from flows.stages.graph import NODES
from flows.tasks import Scope, unsettled
from flows.work import Work, Worked, groups, story_of
from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)
IDLE_SECONDS = 300.0  # without any run begun or ended: time to tell of a worker that may be missing; ours
CANCEL_SECONDS = 20.0  # of patience with a server while a build is cancelled: its worker kills it after 30 s; ours
PAGE = 200  # runs that one answer of Prefect's API holds at most


class NoDeploymentError(PipelineError):
    """The deployment that is to work on partitions is not there."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Some batches and the run that works on them."""

    part: PartitionParameters
    run: UUID

    @property
    def name(self) -> str:
        return name_of(self.part)


def fan_out(deployment: str, work: Work, size: int, context: Context, batches: Sequence[int]) -> Worked:
    """Give the batches, `size` a run, to runs of the deployment and wait for all of them.

    A Retry of the calling run finds the runs that it started before: finished ones stay, failed ones and those with
    songs left to do are retried, those under way are waited for.
    """
    scope = Scope.current()
    parts = [partition(work, context, group) for group in groups(batches, size)]
    partitions = [Partition(part, start(deployment, part, scope)) for part in parts]
    if scope.again:
        retry_unfinished(context, partitions)
    return collect(partitions, wait(deployment, partitions))


def partition(work: Work, context: Context, batches: Sequence[int]) -> PartitionParameters:
    """The parameters of a run over these batches."""
    shared = {name: getattr(work, name) for name in Work.model_fields}
    return PartitionParameters(**shared, batches=list(batches), settings=config_hash(context))


def start(deployment: str, part: PartitionParameters, scope: Scope) -> UUID:
    """The run for this part: the one that this build started before, else a new one."""
    parameters = {"part": part.model_dump(mode="json")}
    digest = sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:16]

    def ask() -> UUID:
        run: FlowRun = run_deployment(  # type: ignore[assignment]  # not awaited: no event loop runs here
            deployment,
            parameters=parameters,
            flow_run_name=name_of(part),
            timeout=0,
            idempotency_key=f"{scope.run}-{digest}",
        )
        return run.id

    try:
        return patiently(f"start of {name_of(part)}", ask)
    except ObjectNotFound as error:
        raise NoDeploymentError(
            f"Prefect has no deployment {deployment!r} to fan out to; `backline deploy` makes build-partition/pool, "
            "`backline serve --limit 2` build-partition/laptop"
        ) from error


def name_of(part: PartitionParameters) -> str:
    """``batches-0-79``, or ``detection-0-79`` where that is the only stage"""
    what = part.stages[0] if len(part.stages) == 1 else "batches"
    return f"{what}-{part.batches[0]}-{part.batches[-1]}"


def retry_unfinished(context: Context, partitions: Sequence[Partition]) -> None:
    """Set those that ended without finishing their work to be run again, as Retry in the UI does."""
    runs = read([p.run for p in partitions])
    for p in partitions:
        state = runs[p.run].state
        if state is None or not state.is_final() or (state.is_completed() and not left(context, p.part)):
            continue

        def ask(run: UUID = p.run) -> None:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(run, AwaitingRetry())

        patiently(f"Retry of {p.name}", ask)
        logger.info("%s is retried: it was %s", p.name, story_of(state))


def left(context: Context, part: PartitionParameters) -> bool:
    """Whether a song of this part lacks a settled row."""
    stages = [stage for stage in NODES if stage in part.stages]
    return any(unsettled(stage, context, batch) for batch in part.batches for stage in stages)


def wait(deployment: str, partitions: Sequence[Partition]) -> dict[UUID, FlowRun]:
    """All runs, once all have ended. A server that is away is waited for: the partitions go on without it."""
    ids, told, since = [p.run for p in partitions], "", time.monotonic()
    while True:
        runs = read(ids)
        states = [run.state_name or "?" for run in runs.values()]
        if all(run.state is not None and run.state.is_final() for run in runs.values()):
            return runs
        now = ", ".join(f"{states.count(name)} {name}" for name in sorted(set(states)))
        if now != told:
            logger.info("partitions: %s", now)
            told, since = now, time.monotonic()
        elif time.monotonic() - since > IDLE_SECONDS and not {"Running", "Retrying"} & set(states):
            logger.warning("partitions: %s; does a worker serve the pool of %s?", now, deployment)
            since = time.monotonic()
        time.sleep(POLL_SECONDS)


def read(ids: Sequence[UUID]) -> dict[UUID, FlowRun]:
    """The runs as the server knows them."""

    def ask() -> dict[UUID, FlowRun]:
        found: dict[UUID, FlowRun] = {}
        with get_client(sync_client=True) as client:
            for begin in range(0, len(ids), PAGE):
                wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(ids[begin : begin + PAGE])))
                found |= {run.id: run for run in client.read_flow_runs(flow_run_filter=wanted, limit=PAGE)}
        return {run: found[run] for run in ids}

    return patiently("state of the partitions", ask, patience=float("inf"))


def cancel_partitions(flow: Flow[..., object], flow_run: FlowRun, state: State[object]) -> None:
    """Cancel the runs that a cancelled build started and that go on. A hook: Prefect calls it when the build is ended.

    Runs without a deployment are parts of the build's own process and end with it.
    """
    for child in children(flow_run.id):
        if child.deployment_id is None or (child.state is not None and child.state.is_final()):
            continue

        def ask(run: UUID = child.id) -> None:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(run, Cancelling(message="the build that started this run was cancelled"))

        patiently(f"cancelling {child.name}", ask, CANCEL_SECONDS)
        logger.info("%s is cancelled with its build", child.name)


def children(run: UUID) -> list[FlowRun]:
    """The runs that a run started."""
    mine = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run]))

    def ask() -> list[FlowRun]:
        found: list[FlowRun] = []
        with get_client(sync_client=True) as client:
            while page := client.read_flow_runs(flow_run_filter=mine, limit=PAGE, offset=len(found)):
                found += page
        return found

    return patiently("partitions of a cancelled build", ask, CANCEL_SECONDS)


def collect(partitions: Sequence[Partition], runs: dict[UUID, FlowRun]) -> Worked:
    """What the ended runs tell: songs of the last attempt of each, one line for each that did not complete."""
    worked = Worked()
    for p in partitions:
        run = runs[p.run]
        worked.songs += int(run.labels.get(WORKED, 0))
        if run.state is None or not run.state.is_completed():
            worked.failures.append(f"{p.name}: {'never began' if run.state is None else story_of(run.state)}")
    return worked
