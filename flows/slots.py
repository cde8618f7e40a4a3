"""Slots for stages that need a GPU: a named limit over all runs on all machines that ask one Prefect server.

`backline serve` and `backline deploy` make the limit, a person changes it in the UI (Concurrency). Where there is
none, nothing waits. A slot is held by a lease: a run that is killed gives it back when the lease runs out.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.concurrency._asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.exceptions import ObjectNotFound

from flows.control import best_effort
from flows.engine.resources import resources_of
from flows.recipe import Recipe
from flows.stages.graph import worker_of

logger = logging.getLogger(__name__)
GPU_LIMIT = "backline-gpu"
LEASE_SECONDS = 60  # renewed by a thread after 45; the least that the server takes; ours


@contextmanager
def gpu_slot(stage: str, recipe: Recipe) -> Iterator[None]:
    """Wait for a slot where the stage needs a GPU and the limit exists; without its server, go on with a warning."""
    if not (needs_gpu(stage, recipe) and limit_exists()):
        yield  # `best_effort` reads all of Prefect's settings: more than the rest of a light task costs
        return
    with ExitStack() as slot:
        try:
            slot.enter_context(concurrency(GPU_LIMIT, lease_duration=LEASE_SECONDS, strict=False, holder=_holder()))
        except (ConcurrencySlotAcquisitionError, httpx.HTTPError) as error:
            logger.warning("%s goes on without a slot of %s: %s", stage, GPU_LIMIT, error)
        yield
        with best_effort(f"the slot of {stage}"):  # else its lease runs out
            slot.close()


def needs_gpu(stage: str, recipe: Recipe) -> bool:
    """Whether the stage's backend runs on a GPU."""
    return resources_of(worker_of(stage, recipe), recipe).gpus > 0


def limit_exists() -> bool:
    """Whether the server has the limit; no where it does not answer."""
    found = False
    with best_effort(f"asking for {GPU_LIMIT}"), get_client(sync_client=True) as client, suppress(ObjectNotFound):
        client.read_global_concurrency_limit_by_name(GPU_LIMIT)
        found = True
    return found


def _holder() -> ConcurrencyLeaseHolder | None:
    """Who the UI says has the slot."""
    running = TaskRunContext.get()
    return ConcurrencyLeaseHolder(type="task_run", id=running.task_run.id) if running else None
