"""What a trainer writes, where nobody sits at a terminal: into a file of the run, and from there onto our own output.

Conventions: a trainer may outlive whoever launched it (`flows.rescheduling`). If it wrote into the pipe that it would
inherit, a worker that waits for that pipe's end would hold the dead launcher for alive as long as the trainer trains.
"""

import codecs
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

LOG = "trainer.log"  # in the run's folder; later launches write on
LOOK_SECONDS = 0.2


@contextmanager
def trainer_output(folder: Path) -> Iterator[BinaryIO | None]:
    """Where a trainer's output goes: `None`, onto our terminal, or a file that is repeated to us while inside."""
    if sys.stderr.isatty():
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("ab") as log:
        ended = Event()
        relay = Thread(target=_repeat, args=(folder / LOG, log.tell(), ended), daemon=True)
        relay.start()
        try:
            yield log
        finally:
            ended.set()
            relay.join()


def _repeat(path: Path, start: int, ended: Event) -> None:
    """Write to our stderr what is appended to the file from byte `start` on, until `ended` and a last look."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    with path.open("rb") as file:
        file.seek(start)
        last = False
        while not last:
            last = ended.wait(LOOK_SECONDS)
            sys.stderr.write(decode(file.read()))
            sys.stderr.flush()
