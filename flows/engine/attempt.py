"""One piece of work in one process: the only place where an exception becomes a result.

*Rejected is data; failed is an exception.* A `BadInput` quarantines the song; anything else fails it, and the flow
fails above the recipe's failure rate; a missing model stops the run.
"""

import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

import numpy as np

from flows.engine.memory import peak_bytes, reset_peak
from flows.requirements import require_pinned
from flows.stages.context import BatchWorker, Context, Made, Worker, to_row
from pipeline.batching import OUT_OF_MEMORY, out_of_memory, remark, remarks
from pipeline.errors import BackendUnavailable, BadInput, PipelineError
from pipeline.phases import measured, phase
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row, Status

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item:
    """One track for one stage, with the rows of the stages before it."""

    track: CatalogRow
    rows: Mapping[str, Row]

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: what `dataclass` writes for slots is slow, and one of these goes to a worker with every song."""
        return Item, (self.track, self.rows)


Batch = tuple[Item, ...]  # songs that one worker works on at once


class Resident:
    """The worker of one stage, kept loaded between songs; another stage's takes its place."""

    def __init__(self) -> None:
        self.name = ""
        self.context: Context | None = None
        self.worker: Worker | None = None

    def get(self, name: str, context: Context) -> Worker:
        """The worker called ``module:Class``, with its model loaded."""
        if self.worker is None or (self.name, self.context) != (name, context):
            require_pinned(context.recipe)  # another machine of the cluster may have other weights
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


def attempts(name: str, context: Context, batch: Batch, loading: float = 0.0) -> tuple[Row, ...]:
    """Work on songs, at once where there are several and the worker can; as `attempt`, a row each."""
    if len(batch) > 1:
        before = time.perf_counter()
        worker = _RESIDENT.get(name, context)
        loading += time.perf_counter() - before
        if isinstance(worker, BatchWorker) and not any(item.track.error for item in batch):
            return _Together(name, worker, batch).rows(loading)
    rows = []
    for item in batch:
        rows.append(attempt(name, context, item, loading))
        loading = 0.0
    return tuple(rows)


def attempt(name: str, context: Context, item: Item, loading: float = 0.0) -> Row:
    """Work on one track; the row says how it ended and what it took. Raises `BackendUnavailable` alone.

    `loading`: s that its model took before.
    """
    begun = time.time()
    reset_peak()
    with measured() as spent, remarks() as made:
        row = _attempt(name, context, item)
    return _told(row, made, spent.seconds, loading, begun)


def _told(row: Row, made: Sequence[str], spent: Mapping[str, float], loading: float, begun: float) -> Row:
    """The row with what its work took and what was remarked over it."""
    load = spent.get("load", 0.0)
    seconds = sum(spent.values()) - load
    message = "\n".join(filter(None, (row.message, *made)))
    phases = {**spent, "load": load + loading}
    return replace(row, message=message, seconds=seconds, phases=phases, peak_bytes=peak_bytes(), begun=begun)


def _attempt(name: str, context: Context, item: Item) -> Row:
    track = item.track
    if track.error:
        return ended(track, "quarantined", track.error, track.message)
    with phase("load"):
        worker = _RESIDENT.get(name, context)
    return _row(track, _tried(name, track.track_id, lambda: worker(track, item.rows)))


@dataclass(frozen=True, slots=True)
class _End:
    """How work ended that has no answer."""

    status: Status
    reason: str
    message: str
    memory: bool = False  # whether it is the GPU's that was not enough


def _row(track: CatalogRow, made: Made | _End) -> Row:
    return ended(track, made.status, made.reason, made.message) if isinstance(made, _End) else to_row(track, made)


def _tried(name: str, songs: str, work: Callable[[], T]) -> T | _End:
    try:
        with np.errstate(all="ignore"):
            return work()
    except BackendUnavailable:
        raise
    except BadInput as error:
        return _End("quarantined", error.reason, str(error))
    except Exception as error:  # the flow boundary: counted, and the flow fails above its failure rate
        ours = isinstance(error, PipelineError)  # its sentence tells all
        logger.warning("%s failed on %s: %s", name, songs, error, exc_info=not ours)
        where = "" if ours else f"\n{traceback.format_exc(limit=-3)}"
        return _End("failed", type(error).__name__, f"{error}{where}", out_of_memory(error))


@dataclass(frozen=True, slots=True)
class _Together:
    """Songs that are worked on at once: each is prepared by itself, then all share the seconds of the work.

    What is remarked over the work is remarked of each of them, and the peak of memory is that of all.
    """

    name: str
    worker: BatchWorker
    batch: Batch

    def rows(self, loading: float) -> tuple[Row, ...]:
        begun = time.time()
        reset_peak()
        heard, spent = list[Any](), list[Mapping[str, float]]()
        with remarks() as made:
            for item in self.batch:
                with measured() as own:
                    work = partial(self.worker.prepare, item.track, item.rows)
                    heard.append(_tried(self.name, item.track.track_id, work))
                spent.append(own.seconds)
            with measured() as joint:
                ends = self.ends(heard)
        share = {name: seconds / len(self.batch) for name, seconds in joint.seconds.items()}
        return tuple(
            _told(_row(item.track, end), made, _sum(own, share), loading if number == 0 else 0.0, begun)
            for number, (item, end, own) in enumerate(zip(self.batch, ends, spent, strict=True))
        )

    def ends(self, heard: Sequence[Any]) -> list[Made | _End]:
        """The answers to prepared songs; those that can't be prepared have theirs."""
        ready = [one for one in heard if not isinstance(one, _End)]
        answers = iter(self.worked(ready))
        return [one if isinstance(one, _End) else next(answers) for one in heard]

    def worked(self, ready: Sequence[Any]) -> list[Made | _End]:
        """Where the work breaks, each half is tried, until one song is to blame."""
        if not ready:
            return []
        answers = _tried(self.name, f"{len(ready)} at once", lambda: self.worker.together(ready))
        if not isinstance(answers, _End):
            return [made for made, _ in zip(answers, ready, strict=True)]
        half = len(ready) // 2
        if half and answers.memory:
            remark(f"songs at once: {len(ready)} -> {half}, {OUT_OF_MEMORY}")
        return [*self.worked(ready[:half]), *self.worked(ready[half:])] if half else [answers]


def _sum(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    return {name: a.get(name, 0.0) + b.get(name, 0.0) for name in {**a, **b}}


def ended(track: CatalogRow, status: Status, reason: str, message: str, seconds: float = 0.0) -> Row:
    """The row of a track that a stage could not finish."""
    return Row(track_id=track.track_id, status=status, reason=reason, message=message, seconds=seconds)
