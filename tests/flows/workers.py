"""Workers that tests give to the engine; a worker process imports this file by name."""

import os
import signal
import time
from dataclasses import dataclass

from flows.stages.context import Context, Made, Rows, Source
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.records.catalog import CatalogRow


@dataclass(frozen=True, slots=True)
class Said:
    """What a worker made: the track's text and the process that read it."""

    text: str
    process: int


class ObedientWorker:
    """Does what the track's text says."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        if track.text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if track.text == "slow":
            time.sleep(0.1)
        if track.text == "bad":
            raise BadInput("nobody can use this", reason="useless")
        if track.text == "break":
            raise RuntimeError("something broke")
        if track.text == "missing":
            raise BackendUnavailable("no such model here")
        rejected = "dull" if track.text == "dull" else ""
        return Made(Said(track.text, os.getpid()), Source("obedient"), rejected)
