"""The songs of one run of an engine: which wait, which came back, and which took their worker with them how often."""

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from flows.engine.attempt import Batch, Item, ended
from flows.engine.supervisor import Loss
from pipeline.batching import by_length
from pipeline.records.ledger import Row

logger = logging.getLogger(__name__)

LOADS = 3  # times in a row that a stage's worker may die while its model loads, before the run ends; ours
# Times that a song may lose the machine it is worked on: machines come and go for reasons of their own, but a song that
# brings each one down must end somewhere. Ours.
MACHINES = 5


class WorkerStartError(RuntimeError):
    """The workers of a stage die before their first song."""


@dataclass(slots=True)
class Work:
    """The queue of one run. Songs go to workers alone, or several at once where the stage takes as many.

    Songs that lose their worker together come again at the end in two halves: whose fault it was is known, and counted,
    once a song was alone. Such a song comes again at the end, `attempts` times in all.
    """

    waiting: deque[Item]
    left: int  # songs without a row
    attempts: int
    songs_seconds: float = 0.0  # s of songs at once, each as long as the longest of them; 0 = one song
    apart: deque[Batch] = field(default_factory=deque)  # those that lost a worker, in the company that they come in
    losses: dict[str, list[Loss]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Sequence[Item], attempts: int, songs_seconds: float = 0.0) -> "Work":
        if songs_seconds:  # songs of like length share a batch, and none that lasts is left for the end
            items = [items[index] for index in by_length([item.track.duration for item in items])]
        return cls(deque(items), len(items), attempts, songs_seconds)

    @property
    def songs(self) -> int:
        """How many wait."""
        return len(self.waiting) + sum(map(len, self.apart))

    def next(self, workers: int = 1) -> Batch:
        """Songs to be worked on at once, of those that `workers` share; none where none waits."""
        batch: list[Item] = []
        share = ceil(len(self.waiting) / workers) if self.songs_seconds else 1
        try:
            batch.append(self.waiting.popleft())
            while len(batch) < share and batch[0].track.duration * (len(batch) + 1) <= self.songs_seconds:
                batch.append(self.waiting.popleft())
            return tuple(batch)
        except IndexError:  # another thread may have given up the run meanwhile
            return tuple(batch) or self._next_apart()

    def _next_apart(self) -> Batch:
        try:
            return self.apart.popleft()
        except IndexError:
            return ()

    def back(self, batch: Batch) -> None:
        """It was not begun."""
        self.apart.appendleft(batch)

    def give_up(self) -> None:
        """Nothing waits any more."""
        self.waiting.clear()
        self.apart.clear()

    def done(self, songs: int = 1) -> None:
        """So many more have their rows."""
        self.left -= songs

    def lost(self, batch: Batch, loss: Loss) -> Row | None:
        """The failure of a song that was alone, if it may not be tried again."""
        if len(batch) > 1:
            logger.warning(
                "%d songs lost their worker, which %s; each half of them comes again", len(batch), loss.message
            )
            half = len(batch) // 2
            self.apart += (batch[:half], batch[half:])
            return None
        (item,) = batch
        losses = self.losses.setdefault(item.track.track_id, [])
        losses.append(loss)
        machines = sum(one.reason == "node_lost" for one in losses)
        if len(losses) - machines < self.attempts and machines < MACHINES:
            self.apart.append(batch)
            return None
        told = "\n".join(f"attempt {number}: its worker {one.message}" for number, one in enumerate(losses, 1))
        return ended(item.track, "failed", loss.reason, told, sum(one.seconds for one in losses))


@dataclass(slots=True)
class Loads:
    """How often in a row the worker of that name was lost while its model loaded."""

    worker: str
    losses: int = 0

    def succeeded(self) -> None:
        self.losses = 0

    def lost(self, loss: Loss) -> WorkerStartError | None:
        """The end of the run, where it happens again and again."""
        self.losses += 1
        if self.losses < LOADS:
            return None
        return WorkerStartError(
            f"the worker {self.worker} was lost {LOADS} times in a row before its first song; the last one "
            f"{loss.message}"
        )
