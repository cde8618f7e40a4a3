"""PostgreSQL and Redis of this machine, started for a test on ports of 127.0.0.1, and processes that end with it."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian puts what is not for the PATH
START_SECONDS = 600.0  # of one process; Prefect's server took more than 180 s beside 25 busy processes
STOP_SECONDS = 30.0


def require_tools() -> None:
    """Skip without PostgreSQL and Redis; fail under CI."""
    missing = [name for name, there in (("postgresql", POSTGRES), ("redis", shutil.which("redis-server"))) if not there]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"no {missing}: install the packages of tests/debian.txt")
    if missing:
        pytest.skip(f"no {missing}: install the packages of tests/debian.txt")


@contextmanager
def postgres(port: str, user: str, password: str, database: str) -> Iterator[None]:
    """A cluster of its own with one user and one empty database; run as `postgres` where this user is root."""
    tools, there = POSTGRES[-1], f"--host 127.0.0.1 --port {port} --username {user}".split()
    with tempfile.TemporaryDirectory() as folder:  # not pytest's: other users may not enter those
        data = make_cluster(Path(folder), user, password)
        settings = ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "fsync=off")
        command = [f"{tools}/postgres", "-D", str(data), *(word for setting in settings for word in ("-c", setting))]
        with started(command, cwd=data, **as_postgres()) as process:
            ready = [f"{tools}/pg_isready", "--quiet", *there]
            wait_for(lambda: subprocess.run(ready, check=False).returncode == 0, process, "PostgreSQL")
            secret = os.environ | {"PGPASSWORD": password}
            subprocess.run([f"{tools}/createdb", *there, database], check=True, env=secret)
            yield


def make_cluster(folder: Path, user: str, password: str) -> Path:
    """The data directory of a new cluster whose `user` needs the password."""
    data, secret = folder / "data", folder / "secret"
    data.mkdir(mode=0o700)
    secret.write_text(password)
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        for path in (folder, data, secret):
            shutil.chown(path, "postgres", "postgres")
    options = f"--username {user} --auth scram-sha-256 --locale C.UTF-8 --no-sync".split()
    command = [f"{POSTGRES[-1]}/initdb", "--pgdata", str(data), "--pwfile", str(secret), *options]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, **as_postgres())
    return data


def as_postgres() -> dict[str, Any]:
    """How `subprocess` becomes the user `postgres`, where this one is root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def redis(port: str) -> Iterator[None]:
    """A server that keeps nothing on disk."""
    command = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]
    with started(command, cwd=Path("/")) as process:
        wait_for(lambda: listens(int(port)), process, "Redis")
        yield


@contextmanager
def started(
    command: list[str], cwd: Path, env: Mapping[str, str] | None = None, output: Any = subprocess.DEVNULL, **how: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process, told to stop at the block's end and killed if it does not."""
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT, **how)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(
    done: Callable[[], bool], process: "subprocess.Popen[bytes] | None", what: str, seconds: float = START_SECONDS
) -> None:
    """Until `done`; `TimeoutError` after `seconds`, `RuntimeError` as soon as the process has ended."""
    deadline = time.monotonic() + seconds
    while not done():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{what} ended with code {process.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: nothing within {seconds:.0f} s")
        time.sleep(0.2)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
