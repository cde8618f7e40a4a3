"""One piece of work in one process: the only place where an exception becomes a result.

*Rejected is data; failed is an exception.* A `BadInput` quarantines the song; anything else fails it, and the flow
fails above the recipe's failure rate; a missing model stops the run.
"""

import logging
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from flows.engine.memory import peak_bytes, reset_peak
from flows.stages.context import Context, Worker, to_row
from pipeline.batching import remarks
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.phases import measured, phase
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row, Status

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Item:
    """One track for one stage, with the rows of the stages before it."""

    track: CatalogRow
    rows: Mapping[str, Row]

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: what `dataclass` writes for slots is slow, and one of these goes to a worker with every song."""
        return Item, (self.track, self.rows)


class Resident:
    """The worker of one stage, kept loaded between songs; another stage's takes its place."""

    def __init__(self) -> None:
        self.name = ""
        self.context: Context | None = None
        self.worker: Worker | None = None

    def get(self, name: str, context: Context) -> Worker:
        """The worker called ``module:Class``, with its model loaded."""
        if self.worker is None or (self.name, self.context) != (name, context):
            self.worker = None  # free the old model before the new one loads
            module, factory = name.split(":")
            worker: Worker = getattr(import_module(module), factory)(context)
            self.worker, self.name, self.context = worker, name, context
        return self.worker


_RESIDENT = Resident()


def load(name: str, context: Context) -> float:
    """Load a worker before its first song; seconds it took. Raises whatever the worker's constructor raises."""
    begun = time.perf_counter()
    _RESIDENT.get(name, context)
    return time.perf_counter() - begun


def attempt(name: str, context: Context, item: Item, loading: float = 0.0) -> Row:
    """Work on one track; the row says how it ended and what it took. Raises `BackendUnavailable` alone.

    `loading`: s that its model took before.
    """
    begun = time.time()
    reset_peak()
    with measured() as spent, remarks() as made:
        row = _attempt(name, context, item)
    load = spent.seconds.get("load", 0.0)
    seconds = sum(spent.seconds.values()) - load
    spent.seconds["load"] = load + loading
    message = "\n".join(filter(None, (row.message, *made)))
    return replace(row, message=message, seconds=seconds, phases=spent.seconds, peak_bytes=peak_bytes(), begun=begun)


def _attempt(name: str, context: Context, item: Item) -> Row:
    track = item.track
    if track.error:
        return ended(track, "quarantined", track.error, track.message)
    with phase("load"):
        worker = _RESIDENT.get(name, context)
    try:
        with np.errstate(all="ignore"):
            made = worker(track, item.rows)
    except BackendUnavailable:
        raise
    except BadInput as error:
        return ended(track, "quarantined", error.reason, str(error))
    except Exception as error:  # the flow boundary: counted, and the flow fails above its failure rate
        logger.warning("%s failed on %s: %s", name, track.track_id, error, exc_info=True)
        where = traceback.format_exc(limit=-3)
        return ended(track, "failed", type(error).__name__, f"{error}\n{where}")
    return to_row(track, made)


def ended(track: CatalogRow, status: Status, reason: str, message: str, seconds: float = 0.0) -> Row:
    """The row of a track that a stage could not finish."""
    return Row(track_id=track.track_id, status=status, reason=reason, message=message, seconds=seconds)
