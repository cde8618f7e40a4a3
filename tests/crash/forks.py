"""A function in a process of its own, made by fork: what was imported once serves hundreds of processes that die."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ended:
    """How the process ended."""

    killed: bool  # by SIGKILL
    result: Any  # JSON; None where it was killed


def forked(function: Callable[[], Any]) -> Ended:
    """Run it in a child; `RuntimeError` where the child failed otherwise than by SIGKILL. One thread only."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _live(function, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return Ended(True, None)
    if status:
        raise RuntimeError(f"the child ended with status {status}:\n{text.decode()}")
    return Ended(False, json.loads(text))


def _live(function: Callable[[], Any], writer: int) -> None:
    status = 1
    try:
        said = json.dumps(function())
        status = 0
    except BaseException:  # noqa: BLE001  # told to the parent, whatever it is
        said = traceback.format_exc()
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(said.encode())
    sys.stdout.flush()
    os._exit(status)
