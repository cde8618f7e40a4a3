"""Workers that tests give to the engine; a worker process imports this file by name."""

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flows.stages.context import Context, Made, Rows, Source
from pipeline.batching import remark
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


@dataclass(frozen=True, slots=True)
class SaidTogether:
    """The track's text, and how many songs were worked on at once when it was read."""

    text: str
    songs: int


class BatchedWorker(ObedientWorker):
    """The same with several songs at once: one whose text says so takes its mates with it."""

    def prepare(self, track: CatalogRow, rows: Rows) -> CatalogRow:
        if track.text == "unreadable":
            raise BadInput("nobody can read this", reason="unreadable")
        return track

    def together(self, prepared: Sequence[CatalogRow]) -> list[Made]:
        if len(prepared) > 4 and any(track.text == "large" for track in prepared):
            remark(f"toy: batch {len(prepared)} -> {len(prepared) // 2}, out of GPU memory")
        if len(prepared) > 2 and any(track.text == "crowded" for track in prepared):
            from torch import OutOfMemoryError

            raise OutOfMemoryError("CUDA out of memory.")
        made = [ObedientWorker.__call__(self, track, {}) for track in prepared]
        return [
            replace(one, value=SaidTogether(track.text, len(prepared)))
            for one, track in zip(made, prepared, strict=True)
        ]

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        return self.together([self.prepare(track, rows)])[0]


class UnloadableWorker:
    """Can't load its model."""

    def __init__(self, context: Context) -> None:
        raise OSError("the weights are torn")


class AbsentWorker:
    """Has no model."""

    def __init__(self, context: Context) -> None:
        raise BackendUnavailable("pip install something")
