"""Where the seconds of a piece of work go: into reading audio, loading a model, writing, or the work itself.

Conventions: the phases of a piece of work share its time out among them: time inside an inner phase is not also the
outer one's. Seconds are those of the monotonic clock. Outside `measured` a phase costs nothing and is kept nowhere.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["load", "decode", "read", "write", "work"]
"""load: a model; decode: the library's audio; read, write: artefacts of the build; work: whatever else a stage does."""


@dataclass(slots=True)
class Spent:
    """Seconds by phase, so far."""

    seconds: dict[str, float] = field(default_factory=dict)
    open: list[Phase] = field(default_factory=lambda: ["work"])
    since: float = field(default_factory=time.perf_counter)

    def charge(self) -> None:
        """Book the time since the last call to the innermost open phase."""
        now = time.perf_counter()
        self.seconds[self.open[-1]] = self.seconds.get(self.open[-1], 0.0) + now - self.since
        self.since = now


_SPENT: ContextVar[Spent | None] = ContextVar("spent", default=None)


@contextmanager
def measured() -> Iterator[Spent]:
    """Time a piece of work; at the end, the phases' seconds add up to all of it."""
    spent = Spent()
    token = _SPENT.set(spent)
    try:
        yield spent
    finally:
        spent.charge()
        _SPENT.reset(token)


@contextmanager
def phase(name: Phase) -> Iterator[None]:
    """What runs inside is this phase of the piece of work that is being measured here, if one is."""
    spent = _SPENT.get()
    if spent is None:
        yield
        return
    spent.charge()
    spent.open.append(name)
    try:
        yield
    finally:
        spent.charge()
        spent.open.pop()
