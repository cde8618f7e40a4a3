"""Workers that tests give to the engine; a worker process imports this file by name."""

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

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
        word, _, rest = track.text.partition(" ")
        match word:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "crash":
                ctypes.string_at(0)
            case "leave":
                os._exit(3)
            case "slow":
                time.sleep(0.1)
            case "hang":
                while True:
                    time.sleep(1)
            case "freeze":  # in native code that holds Python's lock
                ctypes.PyDLL(None).sleep(1000)
            case "swell":
                held = bytearray(b"x") * int(rest)
                time.sleep(1000)
                del held
            case "once":  # dies at the first try
                if not Path(rest).exists():
                    Path(rest).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case "evict":  # takes its supervisor away, once; and, as the engine sees it, its machine
                if not Path(rest).exists():
                    Path(rest).touch()
                    os.kill(os.getppid(), signal.SIGKILL)
                    time.sleep(1000)
            case "bad":
                raise BadInput("nobody can use this", reason="useless")
            case "break":
                raise RuntimeError("something broke")
            case "missing":
                raise BackendUnavailable("no such model here")
        rejected = "dull" if word == "dull" else ""
        return Made(Said(track.text, os.getpid()), Source("obedient"), rejected)


class UnloadableWorker:
    """Can't load its model."""

    def __init__(self, context: Context) -> None:
        raise OSError("the weights are torn")


class AbsentWorker:
    """Has no model."""

    def __init__(self, context: Context) -> None:
        raise BackendUnavailable("pip install something")
