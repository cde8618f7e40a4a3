"""The local engine: worker processes on this machine, one resident model in each, one song (or one batch) in each.

A worker that dies, hangs or takes too much memory is ended and made again; the song that did it alone is the worse.
"""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from threading import Lock
from types import TracebackType
from typing import Self

from flows.engine.attempt import Batch, Item, attempt
from flows.engine.child import Answer, Load, Loaded
from flows.engine.engine import OnRow
from flows.engine.resources import resources_of
from flows.engine.supervisor import POLL_SECONDS, Limits, Loss, Supervised
from flows.engine.work import Loads, Work
from flows.recipe import BuildConfig
from flows.stages.context import Context
from pipeline.errors import BackendUnavailable
from pipeline.records.ledger import Row

GB = 1e9  # bytes


def limits_of(config: BuildConfig) -> Limits:
    """What a worker process may take."""
    return Limits(seconds=config.song_seconds, memory_bytes=int(config.worker_memory_gb * GB))


def open_local(config: BuildConfig) -> "LocalEngine":
    """The engine as the recipe sets it up."""
    return LocalEngine(config.workers, limits_of(config), config.song_attempts)


@dataclass(slots=True)
class _Seat:
    """One worker process and what it is at work on."""

    child: Supervised
    load: bytes = b""  # the message that names its stage, once sent
    batch: Batch = ()
    busy: bool = False


class LocalEngine:
    """Runs stages over tracks; use as a context manager. Calls of `run` take turns."""

    def __init__(self, workers: int, limits: Limits | None = None, attempts: int = 2) -> None:
        self.workers, self.limits, self.attempts = workers, limits or Limits(), attempts
        self._seats: list[_Seat] = []
        self._turn = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers at once."""
        for seat in self._seats:
            seat.child.close()
        self._seats = []

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        """As `Engine.run`."""
        unread = [attempt(worker, context, item) for item in items if item.track.error]
        with self._turn:
            run = _Run(self, Load(worker, context), [item for item in items if not item.track.error], on_row)
            try:
                for row in unread:
                    run.keep(row)
                run.finish()
            finally:
                for seat in [seat for seat in self._seats if seat.busy]:  # an error ended the run
                    self.drop(seat)
        return [run.rows[item.track.track_id] for item in items]

    def seats(self, wanted: int) -> list[_Seat]:
        """The workers that live, and as many new ones as are wanted and allowed."""
        for seat in [seat for seat in self._seats if not seat.busy and not seat.child.alive]:
            self.drop(seat)
        while len(self._seats) < min(self.workers, wanted):
            self._seats.append(_Seat(Supervised(self.limits)))
        return self._seats

    def drop(self, seat: _Seat) -> None:
        """End a worker."""
        self._seats.remove(seat)
        seat.child.close()


class _Run:
    """One stage over some songs."""

    def __init__(self, engine: LocalEngine, load: Load, items: Sequence[Item], on_row: OnRow) -> None:
        self.engine, self.message, self.on_row = engine, pickle.dumps(load), on_row
        at_once = resources_of(load.worker, load.context.recipe).songs_seconds
        self.work, self.loads = Work.of(items, engine.attempts, at_once), Loads(load.worker)
        self.rows: dict[str, Row] = {}
        self.refusal: BackendUnavailable | None = None

    def keep(self, row: Row) -> None:
        self.rows[row.track_id] = row
        self.on_row(row)

    def finish(self) -> None:
        """Every song gets its row; after `BackendUnavailable` only those that are under way do."""
        while self.work.left and self._hand_out():
            self._collect()
        if self.refusal is not None:
            raise self.refusal

    def _hand_out(self) -> bool:
        """Give each free worker something to do; whether any has."""
        if self.refusal is None:
            for seat in self.engine.seats(self.work.left):
                if not seat.busy:
                    self._give(seat)
        return any(seat.busy for seat in self.engine.seats(0)) or self.refusal is None

    def _give(self, seat: _Seat) -> None:
        if seat.load != self.message:
            seat.load, seat.busy = self.message, seat.child.send(self.message)
        elif batch := self.work.next(self.engine.workers):
            seat.batch, seat.busy = batch, seat.child.send(pickle.dumps(batch), len(batch))
            if not seat.busy:  # it died while it had nothing to do
                self.work.back(batch)

    def _collect(self) -> None:
        busy = [seat for seat in self.engine.seats(0) if seat.busy]
        if len(busy) != 1:  # one alone is waited for below, with fewer calls
            wait([seat.child.connection for seat in busy], POLL_SECONDS)
        for seat in busy:
            if seat.child.ready(POLL_SECONDS if len(busy) == 1 else 0.0):
                self._take(seat)

    def _take(self, seat: _Seat) -> None:
        answer, batch = seat.child.receive(), seat.batch
        seat.busy, seat.batch = False, ()
        if isinstance(answer, Loss):
            self.engine.drop(seat)
            self._mourn(batch, answer)
            return
        told: Answer = pickle.loads(answer)
        if isinstance(told, Loaded):
            self.loads.succeeded()
        elif isinstance(told, BackendUnavailable):
            self.refusal = told
        else:
            self.work.done(len(told))
            for row in told:
                self.keep(row)

    def _mourn(self, batch: Batch, loss: Loss) -> None:
        if not batch:
            if (error := self.loads.lost(loss)) is not None:
                raise error
        elif (row := self.work.lost(batch, loss)) is not None:
            self.work.done()
            self.keep(row)
