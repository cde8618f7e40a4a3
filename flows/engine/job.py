"""One run of an engine whose workers another thread looks after: rows come back through a queue."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from flows.engine.attempt import Item
from flows.engine.engine import OnRow
from flows.engine.work import Work
from pipeline.records.ledger import Row


@dataclass(slots=True, eq=False)
class Job:
    """The songs of one run, what is under way of them, and how the run ends."""

    work: Work
    running: int = 0  # workers that are at its songs
    error: Exception | None = None  # once set, no further song is begun
    answers: SimpleQueue[Row | None] = field(default_factory=SimpleQueue)

    @classmethod
    def of(cls, items: Sequence[Item], attempts: int, songs_seconds: float = 0.0) -> "Job":
        return cls(Work.of(items, attempts, songs_seconds))

    @property
    def over(self) -> bool:
        return not self.running and (self.error is not None or not self.work.left)

    def keep(self, row: Row) -> None:
        self.work.done()
        self.answers.put(row)

    def fail(self, error: Exception) -> None:
        """Begin no further song; the first error is the run's."""
        self.error = self.error or error
        self.work.give_up()

    def finish(self) -> None:
        """Say that nothing more will come."""
        self.answers.put(None)

    def rows(self, on_row: OnRow) -> dict[str, Row]:
        """Wait for all of them, in the caller's thread. Raises what ended the run."""
        rows: dict[str, Row] = {}
        while (row := self.answers.get()) is not None:
            rows[row.track_id] = row
            on_row(row)
        if self.error is not None:
            raise self.error
        return rows
