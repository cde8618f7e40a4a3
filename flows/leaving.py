"""The end of a process whose Prefect server went away for good: what can't be told is given up after a stated time.

At its exit a process tries every event that waits, 7 s each while nothing answers, and the logs of its runs; only then
does it end. What is lost is what the server shows: the ledger and the dataset are on disk long before.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

logger = logging.getLogger(__name__)
COMMAND_SECONDS = 120.0  # for events and logs, once a command is through; a server that lives takes 256 in some s. Ours
# For the same and for a run's last state, once the flow of a process of its own is through. Prefect asks for that state
# for up to 10 min (`PREFECT_CLIENT_MAX_RETRIES`), twice where the first time fails. Ours
RUN_SECONDS = 1500.0


def end_within(seconds: float, status: int) -> None:
    """Let this process end with that status after so many seconds at the latest, whatever its threads wait for.

    Not where Prefect is not in use, and not with a server that this process started: that one goes no sooner.
    """
    if "prefect" not in sys.modules or not _has_server():
        return

    def end() -> None:
        time.sleep(seconds)
        logger.warning("Prefect's server did not take all that was to be told in %.0f s; nothing else is lost", seconds)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    Thread(target=end, daemon=True, name="end").start()


@contextmanager
def run_ends() -> Iterator[None]:
    """Around the body of a flow: a process that a work pool started for this run ends within `RUN_SECONDS` of it."""
    status = 1
    try:
        yield
        status = 0
    finally:
        if _is_of_this_run():
            end_within(RUN_SECONDS, status)


def _has_server() -> bool:
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() is not None


def _is_of_this_run() -> bool:
    """Whether a worker of a pool started this process to run the flow that this is called in."""
    from prefect.context import FlowRunContext

    running = FlowRunContext.get()
    mine = running.flow_run.id if running is not None and running.flow_run is not None else None
    return str(mine) == os.environ.get("PREFECT__FLOW_RUN_ID")
