"""A worker process and the one who watches it: hands it songs, takes its rows, ends it at a limit, tells how it died.

The worker is a program of its own, joined by a socket. It ends with its supervisor, whatever ends that: its standard
input is a lifeline. Where it hung or crashed, Python's fault handler has written down in a file that both hold.
Standard library only: an actor of a cluster that merely watches a worker need not load what the worker loads.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

POLL_SECONDS = 0.2  # s between looks at a working child's memory and clock; ours
GRACE_SECONDS = 5.0  # s that a child has to end itself at the time limit, telling where it was; ours
NOISE = ("in hold_lifeline", "Extension modules:")  # paragraphs of the fault handler that tell nothing
STORY_CHARACTERS = 2000  # of where it hung or crashed; ours
PROGRAM = "from flows.engine.child import main; main"  # not -m: messages name the module by its own name
PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
# What torch and the linear algebra under numpy read when they are loaded: a result could depend on their threads.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Reason = Literal["worker_died", "timeout", "out_of_memory", "node_lost"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker process may take; 0 = as much as it likes."""

    seconds: float = 0.0  # s for one song, the model's loading not counted
    memory_bytes: int = 0  # bytes resident; looked at every `POLL_SECONDS`, so it can be passed for that long
    threads: int = 1  # of torch and of the linear algebra under numpy


@dataclass(frozen=True, slots=True)
class Loss:
    """How a worker process was lost."""

    reason: Reason
    message: str
    seconds: float = 0.0  # s since it was given its work


class Supervised:
    """One child process; `send` it a message, then `receive` its answer, or its end, once it is `ready`."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._story = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        ours, theirs = socket.socketpair()
        self.process = _start(theirs.fileno(), self._story.fileno(), limits)
        theirs.close()
        self.connection = Connection(ours.detach())
        self._ear = select.poll()  # `Connection.poll` makes one at every call
        self._ear.register(self.connection.fileno(), select.POLLIN)
        self._begun, self._songs, self._killed = time.monotonic(), 0, ""

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def send(self, message: bytes, songs: int = 0) -> bool:
        """Give it work, within the time limit of so many songs, 0 = no limit; False if it is dead already."""
        self._begun, self._songs = time.monotonic(), songs
        try:
            self.connection.send_bytes(message)
        except OSError:
            return False
        return True

    def ready(self, timeout: float = 0.0) -> bool:
        """Whether an answer, or its end, is there to be received; ends it if it is over a limit."""
        if self._ear.poll(1000 * timeout):  # ms
            return True
        self._check()
        return not self.alive

    def receive(self) -> bytes | Loss:
        """Its answer, or how it ended; then `close` it."""
        try:
            if self._ear.poll(0):
                return self.connection.recv_bytes()
        except (EOFError, OSError):
            self._kill()
        code = self.process.wait()
        return Loss(*self._how(code), time.monotonic() - self._begun)

    def close(self) -> None:
        """End it at once, whatever it does."""
        self._kill()
        self.process.wait()
        self.connection.close()
        self._story.close()
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    def _check(self) -> None:
        elapsed, limit = time.monotonic() - self._begun, self.limits.seconds * self._songs
        if limit and elapsed > limit + GRACE_SECONDS:
            self._killed = "timeout"
        elif self.limits.memory_bytes and resident_bytes(self.process.pid) > self.limits.memory_bytes:
            self._killed = "out_of_memory"
        if self._killed:
            self._kill()

    def _kill(self) -> None:
        if self.alive:
            self.process.kill()

    def _how(self, code: int) -> tuple[Reason, str]:
        """Why it ended, from its exit code, what we did to it and what its fault handler wrote."""
        self._story.seek(0)
        told = self._story.read().decode(errors="replace").replace("!\nThread", "!\n\nThread").split("\n\n")
        story = "\n".join(part.strip() for part in told if not any(noise in part for noise in NOISE))
        story = story[:STORY_CHARACTERS]
        where = f"; it was here:\n{story}" if story else ""
        if self._killed == "out_of_memory":
            return "out_of_memory", f"held more than {self.limits.memory_bytes / 1e9:.3g} GB (build.worker_memory_gb)"
        if self._killed == "timeout" or code == -signal.SIGALRM:
            songs = f" times {self._songs} songs" if self._songs > 1 else ""
            return "timeout", f"took more than {self.limits.seconds:g} s (build.song_seconds){songs}{where}"
        if code == -signal.SIGKILL:
            return "worker_died", f"was killed by SIGKILL, as the kernel does when memory runs out{where}"
        return "worker_died", f"{_end(code)}{where}"


def resident_bytes(process: int) -> int:
    """The resident set of a process; 0 once it is gone, and on systems without /proc."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def _end(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _start(channel: int, story: int, limits: Limits) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join([entry or os.getcwd() for entry in sys.path])
    threads = {name: str(limits.threads) for name in THREADS}
    return subprocess.Popen(
        [sys.executable, "-c", f"{PROGRAM}({channel}, {story}, {limits.seconds})"],
        stdin=subprocess.PIPE,
        pass_fds=(channel, story),
        env={**os.environ, "PYTHONPATH": path, **threads},
    )
