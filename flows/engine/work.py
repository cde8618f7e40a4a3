"""The songs of one run of an engine: which wait, which came back, and which took their worker with them how often."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from flows.engine.attempt import Item, ended
from flows.engine.supervisor import Loss
from pipeline.records.ledger import Row

LOADS = 3  # times in a row that a stage's worker may die while its model loads, before the run ends; ours


class WorkerStartError(RuntimeError):
    """The workers of a stage die before their first song."""


@dataclass(slots=True)
class Work:
    """The queue of one run; a song that loses its worker comes again at the end of it, `attempts` times in all."""

    waiting: deque[Item]
    left: int  # songs without a row
    attempts: int
    losses: dict[str, list[Loss]]
    load_losses: int = 0  # in a row

    @classmethod
    def of(cls, items: Sequence[Item], attempts: int) -> "Work":
        return cls(deque(items), len(items), attempts, {})

    def next(self) -> Item | None:
        """A song to be worked on; None where none waits."""
        return self.waiting.popleft() if self.waiting else None

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
        if len(losses) < self.attempts:
            self.waiting.append(item)
            return None
        told = "\n".join(f"attempt {number}: its worker {one.message}" for number, one in enumerate(losses, 1))
        return ended(item.track, "failed", loss.reason, told, sum(one.seconds for one in losses))

    def loaded(self) -> None:
        self.load_losses = 0

    def load_lost(self, name: str, loss: Loss) -> None:
        """`WorkerStartError` where it happens again and again."""
        self.load_losses += 1
        if self.load_losses >= LOADS:
            raise WorkerStartError(
                f"the worker {name} was lost {LOADS} times in a row before its first song; the last one {loss.message}"
            )
