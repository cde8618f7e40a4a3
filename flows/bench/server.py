"""A Prefect server of one's own for a measurement: its CPU seconds, its memory, and what its database holds.

Conventions: SQLite, on loopback, everything in one folder that the caller owns; Linux alone, since the figures are read
from ``/proc``.
"""

import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flows.environment import DEFAULTS
from flows.serving import ServerDownError, healthy

TICKS = os.sysconf("SC_CLK_TCK")  # of /proc's CPU times in a second
DATABASE, LOG = "prefect.db", "server.log"
TABLES = ("flow_run", "task_run", "artifact", "events", "log")
QUIET_SECONDS = 3.0  # without new rows: the server has recorded what it was sent; ours
START_SECONDS = 900.0  # a measurement may have to wait for a busy machine; ours
SETTLE_SECONDS = 5.0  # after its first answer a server still sets up its services; ours
IDLE_SECONDS = 10.0  # its services look around every 5 to 60 s; ours
DRAIN_SECONDS = 120.0  # to wait for that at most; ours


@dataclass(frozen=True, slots=True)
class ServerUse:
    """What a server took and holds."""

    cpu_seconds: float  # since it began, its children's too
    peak_bytes: int  # of resident memory
    database_bytes: int  # the write-ahead log's too
    rows: Mapping[str, int]  # table -> rows


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    home: Path
    port: int
    pid: int

    @property
    def environment(self) -> dict[str, str]:
        """What a client of it needs."""
        return os.environ | DEFAULTS | settings(self.home) | {"PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api"}

    @property
    def log(self) -> Path:
        return self.home / LOG

    @property
    def alive(self) -> bool:
        """Whether its process runs; one that was not waited for yet is a zombie."""
        try:
            return _stat(self.pid)[0] != "Z"
        except OSError:
            return False

    def use(self) -> ServerUse:
        """Now, or once what it was sent is recorded: it goes on for a while after its client has left."""
        rows, since, begun = self.rows(), time.monotonic(), time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS and time.monotonic() - begun < DRAIN_SECONDS:
            time.sleep(0.5)
            if (now := self.rows()) != rows:
                rows, since = now, time.monotonic()
        family = processes(self.pid)
        return ServerUse(
            cpu_seconds=sum(cpu_seconds(pid) for pid in family),
            peak_bytes=sum(peak_bytes(pid) for pid in family),
            database_bytes=sum(path.stat().st_size for path in self.home.glob(f"{DATABASE}*")),
            rows=rows,
        )

    def idle_rate(self) -> float:
        """CPU seconds a second while nobody asks anything."""
        time.sleep(SETTLE_SECONDS)
        begun, before = time.monotonic(), sum(map(cpu_seconds, processes(self.pid)))
        time.sleep(IDLE_SECONDS)
        return (sum(map(cpu_seconds, processes(self.pid))) - before) / (time.monotonic() - begun)

    def rows(self) -> dict[str, int]:
        """Table -> rows."""
        with closing(sqlite3.connect(f"file:{self.home / DATABASE}?mode=ro", uri=True, timeout=60)) as base:
            return {name: base.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in TABLES}


def settings(home: Path) -> dict[str, str]:
    """Variables that keep a server and its clients in a folder."""
    return {"PREFECT_HOME": str(home), "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / DATABASE}"}


@contextmanager
def private_server(home: Path) -> Iterator[Server]:
    """A server that lives as long as the block; `ServerDownError` where it does not come up."""
    home.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | DEFAULTS | settings(home)
    with (home / LOG).open("ab") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        _wait(process, port, home)
        yield Server(home, port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int, home: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerDownError(f"the Prefect server did not answer on port {port}; see {home / LOG}")
        time.sleep(0.5)


def processes(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of those children that it has buried."""
    try:
        return sum(map(int, _stat(pid)[11:15])) / TICKS
    except OSError:  # it has ended
        return 0.0


def peak_bytes(pid: int) -> int:
    """The most resident memory that a process had."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _stat(pid: int) -> list[str]:
    """``/proc/<pid>/stat`` behind the name, which may hold anything: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
