"""The songs of one run of an engine: which wait, which came back, and which took their worker with them how often."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from flows.engine.attempt import Item, ended
from flows.engine.supervisor import Loss
from pipeline.records.ledger import Row

LOADS = 3  # times in a row that a stage's worker may die while its model loads, before the run ends; ours
# Times that a song may lose the machine it is worked on: machines come and go for reasons of their own, but a song that
# brings each one down must end somewhere. Ours.
MACHINES = 5


class WorkerStartError(RuntimeError):
    """The workers of a stage die before their first song."""


@dataclass(slots=True)
class Work:
    """The queue of one run; a song that loses its worker comes again at the end of it, `attempts` times in all."""

    waiting: deque[Item]
    left: int  # songs without a row
    attempts: int
    losses: dict[str, list[Loss]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Sequence[Item], attempts: int) -> "Work":
        return cls(deque(items), len(items), attempts)

    def next(self) -> Item | None:
        """A song to be worked on; None where none waits."""
        try:
            return self.waiting.popleft()
        except IndexError:  # another thread may have given up the run meanwhile
            return None

    def back(self, item: Item) -> None:
        """It was not begun."""
        self.waiting.appendleft(item)

    def done(self) -> None:
        """One more has its row."""
        self.left -= 1

    def lost(self, item: Item, loss: Loss) -> Row | None:
        """The song's failure, if it may not be tried again."""
        losses = self.losses.setdefault(item.track.track_id, [])
        losses.append(loss)
        machines = sum(one.reason == "node_lost" for one in losses)
        if len(losses) - machines < self.attempts and machines < MACHINES:
            self.waiting.append(item)
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
