"""One trainer to a run's folder: a launcher that dies may leave its trainer behind, and a retry must not join it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import BadInput

LOCK = ".lock"


@contextmanager
def sole_trainer(folder: Path) -> Iterator[None]:
    """Hold the folder while inside; `BadInput` where another process holds it. The system frees it when we die."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"another trainer is at work in {folder}; wait for it or end it first", "in_use") from error
        yield
