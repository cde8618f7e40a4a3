"""The local engine: a pool of processes on this machine, one resident model in each.

A worker that dies (out of memory, a crash in native code) breaks its pool; the pool is made again and the songs that
were unfinished run alone, so that the song that kills its worker is found, and fails by itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import Self

from flows.engine.attempt import Item, attempt, ended, start_process
from flows.engine.engine import OnRow
from flows.recipe import BuildConfig
from flows.stages.context import Context
from pipeline.errors import BackendUnavailable
from pipeline.records.ledger import Row


def open_local(config: BuildConfig) -> "LocalEngine":
    """The engine as the recipe sets it up."""
    return LocalEngine(config.workers)


class LocalEngine:
    """Runs stages over tracks; use as a context manager."""

    concurrent_batches = 1  # a batch has songs enough for all workers of a machine

    def __init__(self, workers: int, threads: int = 1) -> None:
        self.workers, self.threads = workers, threads
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers; running songs are finished first."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        """One row per item, in their order, from the worker ``module:Class``; `on_row` is called as each comes in.

        `BackendUnavailable` from a worker stops the run: waiting songs are not begun, `on_row` gets the running ones.
        """
        rows = self._batch(worker, context, items, on_row)
        for item in items:
            if item.track.track_id not in rows:  # a worker died: find out whose fault it was
                rows |= self._alone(worker, context, item, on_row)
        return [rows[item.track.track_id] for item in items]

    def _batch(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        futures: list[Future[Row]] = []

        def take(row: Row) -> None:
            if row.track_id not in rows:
                rows[row.track_id] = row
                on_row(row)

        try:
            for item in items:
                futures.append(self._executor().submit(attempt, worker, context, item))
            for future in as_completed(futures):
                take(future.result())
        except BrokenProcessPool:
            self._pool = None
            for row in _finished(futures):
                take(row)
        except BackendUnavailable:
            _cancel(futures)
            wait(futures)
            for row in _finished(futures):
                take(row)
            raise
        finally:
            _cancel(futures)
        return rows

    def _alone(self, worker: str, context: Context, item: Item, on_row: OnRow) -> dict[str, Row]:
        rows = self._batch(worker, context, [item], on_row)
        if not rows:
            message = "its worker process died twice (out of memory, or a crash in native code)"
            row = ended(item.track, "failed", "worker_died", message, 0.0)
            on_row(row)
            rows = {row.track_id: row}
        return rows

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.workers, get_context("spawn"), initializer=start_process, initargs=(self.threads,)
            )
        return self._pool


def _cancel(futures: Iterable[Future[Row]]) -> None:
    for future in futures:
        future.cancel()


def _finished(futures: Iterable[Future[Row]]) -> Iterator[Row]:
    """The rows that are there."""
    for future in futures:
        if future.done() and not future.cancelled() and future.exception() is None:
            yield future.result()
