"""The Ray engine: stages spread over the machines of a cluster, one actor for each worker, one song (or one batch)
in each.

One thread looks after all workers; the runs of several batches share them, so that while one batch is at a stage that
holds the GPUs, others are at stages that hold CPUs. A machine that is lost gives its songs back to the queue.
"""

from collections.abc import Sequence
from threading import Thread
from types import TracebackType
from typing import Self

from flows.engine.attempt import Item, attempt
from flows.engine.child import Load
from flows.engine.cluster import Cluster
from flows.engine.engine import OnRow
from flows.engine.fleet import Fleet
from flows.engine.job import Job
from flows.engine.resources import resources_of
from flows.recipe import BuildConfig
from flows.stages.context import Context
from pipeline.records.ledger import Row


def open_ray(config: BuildConfig) -> "RayEngine":
    """The engine as the recipe sets it up, connected."""
    return RayEngine(config)


class RayEngine:
    """Runs stages over tracks; use as a context manager."""

    def __init__(self, config: BuildConfig) -> None:
        self._attempts = config.song_attempts
        self._cluster = Cluster(config)
        self._fleet = Fleet(self._cluster, config)
        self._thread = Thread(target=self._fleet.serve, name="ray-engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers at once and leave the cluster."""
        self._fleet.told.put(None)
        self._thread.join()
        self._cluster.close()

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        """As `Engine.run`. `RootNotSharedError` where a machine of the cluster can't see the root."""
        rows = {item.track.track_id: attempt(worker, context, item) for item in items if item.track.error}
        for row in rows.values():
            on_row(row)
        todo = [item for item in items if not item.track.error]
        if todo:
            job = Job.of(todo, self._attempts, resources_of(worker, context.recipe).songs_seconds)
            self._fleet.told.put((Load(worker, context), job))
            if self._fleet.ended is not None:  # nobody will look
                job.fail(self._fleet.ended)
                job.finish()
            try:
                rows |= job.rows(on_row)
            finally:
                job.fail(InterruptedError("nobody waits for this run any more"))
        return [rows[item.track.track_id] for item in items]
