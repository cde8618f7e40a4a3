"""What runs on a machine of the cluster: an actor that watches one worker process there, and passes on its answers.

The worker is a process of its own, as in the local engine, so that songs that hang, swell or crash have the same limits
and leave the same rows on both engines, and an actor that dies means that its machine, not its song, is to blame.
Standard library only: an actor loads nothing that its worker loads.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from flows.engine.supervisor import POLL_SECONDS, Limits, Loss, Supervised


@dataclass(frozen=True, slots=True)
class Missing:
    """Files that this machine doesn't see."""

    machine: str
    paths: tuple[str, ...]


class Station:
    """One worker process on this machine, started anew after each loss."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.child: Supervised | None = None

    def load(self, message: bytes, look: Sequence[str]) -> bytes | Loss | Missing:
        """Start the worker and load its model, if this machine sees those paths."""
        if missing := tuple(path for path in look if not os.path.exists(path)):
            return Missing(socket.gethostname(), missing)
        if self.child is None:
            self.child = Supervised(self.limits)
        return self._ask(message, songs=0)

    def work(self, message: bytes, songs: int) -> bytes | Loss:
        """Work on a batch of so many songs; after a loss, `load` comes first again."""
        return self._ask(message, songs)

    def _ask(self, message: bytes, songs: int) -> bytes | Loss:
        if self.child is None:
            raise RuntimeError("a song came before its model")
        self.child.send(message, songs)
        while not self.child.ready(POLL_SECONDS):
            pass
        answer = self.child.receive()
        if isinstance(answer, Loss):
            self.child.close()
            self.child = None
        return answer
