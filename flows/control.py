"""Talk with Prefect's server that a build can do without, or can wait for: the ledger is the record, not the server.

Measured on 3.8.8: states of tasks are sent as events and no task asks for leave to run, so a build goes on while its
server is away. What asks are artifacts (`best_effort`: lost) and the start of partitions (`patiently`: waited for).
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import httpx
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)
T = TypeVar("T")
SHORT_SECONDS = 10  # for an answer to what a build can do without; ours
PATIENCE_SECONDS = 1800.0  # for a server that is away where a build can't go on without; ours
POLL_SECONDS = 5.0  # between two questions; Prefect's own `run_deployment` takes as long


@contextmanager
def best_effort(what: str, retries: int = 0) -> Iterator[None]:
    """Try once and, after 2, 4, 8 .. s, `retries` times more; then a server that is away, refuses (an SQLite database
    is busy with events, say) or is slow costs a warning, and up to `SHORT_SECONDS` a try.
    """
    try:
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: retries, PREFECT_API_REQUEST_TIMEOUT: SHORT_SECONDS}):
            yield
    except (httpx.HTTPError, ConnectionError) as error:
        logger.warning("%s: Prefect's server did not take it (%s); the build goes on", what, tell(error))


class ServerAwayError(PipelineError):
    """Prefect's server went away for good while a flow ran."""


@contextmanager
def end_is_told() -> Iterator[None]:
    """Around a run of a flow: `ServerAwayError`, with what to do, where Prefect could not ask or tell its server."""
    try:
        yield
    except httpx.HTTPError as error:
        if _refused(error):
            raise
        raise ServerAwayError(
            f"Prefect's server does not answer ({tell(error)}), so it knows nothing of this run's end. What was done "
            "is on disk (`backline status` shows it); once the server is back, run it again: what is done is skipped"
        ) from error


def patiently(what: str, ask: Callable[[], T], patience: float = PATIENCE_SECONDS) -> T:
    """The answer, asked for again while the server is away or overloaded; the last error after `patience` s.

    `ask` must be harmless to repeat. An answer that says no (4xx) is raised at once.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return ask()
        except (httpx.HTTPError, ConnectionError) as error:
            if _refused(error) or time.monotonic() > deadline:
                raise
            logger.warning("%s: no answer from Prefect's server (%s); asked again", what, tell(error))
            time.sleep(POLL_SECONDS)


def _refused(error: Exception) -> bool:
    """Whether a server that is well said no."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error


def tell(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
