"""The rehearsal's workers, every call noted in a file: how much work a build really did, whatever it kept of it.

Conventions: a worker process imports this by name; ``CRASH_LOG`` names the file. Where ``<log>.doom`` lies beside it,
the first process that comes to its place takes it away and dies there.
"""

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fsteps import Steps, watch

from flows.bench import noop
from flows.stages.context import Context, Made, Rows, Worker
from pipeline.records.catalog import CatalogRow


@dataclass(frozen=True, slots=True)
class Doom:
    """Where a worker process dies."""

    worker: str  # class name of the stage's worker
    track_id: str
    step: int  # in the file system, from 1; 0 = before the song, or after it where the song takes fewer steps


class Counted:
    """A worker that notes each song before it begins."""

    def __init__(self, name: str, context: Context) -> None:
        self.name, self.context = name, context
        self.worker: Worker = getattr(noop, name)(context)

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        log = Path(os.environ["CRASH_LOG"])
        note(log, f"{self.name} {track.track_id}")
        doom = _doom_of(log, self.name, track.track_id)
        if doom is None:
            return self.worker(track, rows)
        if doom.step:
            watch(Steps(Path(str(self.context.root)), log.parent, kill_at=doom.step))
            self.worker(track, rows)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nobody survives SIGKILL")


def note(log: Path, line: str) -> None:
    """Add a line, whole, whatever other processes do meanwhile."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, f"{line}\n".encode())
    finally:
        os.close(handle)


def foretell(log: Path, doom: Doom) -> None:
    """One process will die there."""
    Path(f"{log}.doom").write_text(json.dumps(asdict(doom)))


def _doom_of(log: Path, worker: str, track_id: str) -> Doom | None:
    place = Path(f"{log}.doom")
    try:
        doom = Doom(**json.loads(place.read_text()))
        if (doom.worker, doom.track_id) != (worker, track_id):
            return None
        place.rename(f"{log}.taken")
    except FileNotFoundError:
        return None
    return doom


def __getattr__(name: str) -> Any:
    if not name.endswith("Worker"):
        raise AttributeError(name)
    return lambda context: Counted(name, context)
