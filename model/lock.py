"""One trainer to a run's folder: a launcher that dies may leave its trainer behind, and a retry must not join it.

Conventions: the lock file holds ``<process id> <machine>`` of the trainer that is at work, so that a stop can be told
to it alone: launchers end at once, or kill their workers after 30 s.
"""

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pipeline.errors import BadInput

LOCK = ".lock"
PATIENCE = 2.0  # s; whoever looks whether the lock is held holds it for an instant; ours


@contextmanager
def sole_trainer(folder: Path) -> Iterator[None]:
    """Hold the folder while inside; `BadInput` where another process holds it. The system frees it when we die."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+") as file:
        if not _acquired(file, PATIENCE):
            raise BadInput(f"another trainer is at work in {folder}; wait for it or end it first", "in_use")
        _write(file, f"{os.getpid()} {platform.node()}")
        yield
        _write(file, "")


def held(folder: Path) -> bool:
    """Whether a trainer is at work in the folder."""
    path = folder / LOCK
    if not path.exists():
        return False
    with path.open("r+") as file:
        return not _acquired(file, 0.0)


def holder(folder: Path) -> int | None:
    """Process id of the trainer at work; `None` where there is none, or it works on another machine."""
    if not held(folder):
        return None
    number, _, machine = (folder / LOCK).read_text().partition(" ")
    return int(number) if number and machine == platform.node() else None


def _acquired(file: TextIO, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True


def _write(file: TextIO, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()
