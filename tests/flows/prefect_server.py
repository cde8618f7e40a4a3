"""A real Prefect server on loopback for tests, with deployments, a worker, and ways to ask it and to stop it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.build_dataset import BuildParameters
from flows.control import patiently
from flows.serving import start_server

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 900  # of one flow run, on a machine where every process gets a tenth of a core
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Server:
    """One server with a database of its own, which outlives a restart."""

    home: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def env(self) -> dict[str, str]:
        """Of commands that talk to it."""
        mine = {"PREFECT_HOME": str(self.home), "PREFECT_API_URL": self.api, "BACKLINE_HOME": str(ROOT)}
        return os.environ | mine | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "OMP_NUM_THREADS": "1"}

    def start(self) -> None:
        kept = dict(os.environ)
        os.environ.update({"PREFECT_HOME": str(self.home), **self.extra})
        try:
            self.process = start_server(self.port)
        finally:
            os.environ.clear()
            os.environ.update(kept)

    def stop(self) -> None:
        if self.process is not None:
            end(self.process)
            self.process = None

    @contextmanager
    def here(self) -> Iterator[None]:
        """Prefect in this process talks to this server."""
        with temporary_settings({PREFECT_API_URL: self.api, PREFECT_HOME: self.home}):
            yield

    def command(self, *words: str) -> None:
        subprocess.run([sys.executable, "-m", "flows.cli", *words], check=True, cwd=ROOT, env=self.env)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer; where its SQLite is busy with events, the server says 503 and is asked again."""

        def once() -> Any:
            answer = httpx.request(method, f"{self.api}/{path}", json=body, timeout=60)
            return answer.raise_for_status().json()

        return patiently(path, once)

    def post(self, path: str, **body: Any) -> Any:
        return self.ask("POST", path, body)

    def deployments(self) -> dict[str, dict[str, Any]]:
        """``flow/deployment`` -> what the server says of it."""
        flows = {flow["id"]: flow["name"] for flow in self.post("flows/filter")}
        return {f"{flows[one['flow_id']]}/{one['name']}": one for one in self.post("deployments/filter")}

    def run(self, build: BuildParameters, deployment: str = "build-dataset/pool") -> str:
        """A flow run, as the run form starts it; its id."""
        path = f"deployments/{self.deployments()[deployment]['id']}/create_flow_run"
        body = {"build": build.model_dump(mode="json")}
        return str(self.post(path, parameters=body, idempotency_key=str(uuid4()))["id"])

    def retry(self, run: str) -> None:
        """What the button Retry sends."""
        told = self.post(f"flow_runs/{run}/set_state", state={"type": "SCHEDULED", "name": "AwaitingRetry"})
        assert told["status"] == "ACCEPT"

    def cancel(self, run: str) -> None:
        """What the button Cancel sends."""
        told = self.post(f"flow_runs/{run}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
        assert told["status"] == "ACCEPT"

    def state(self, run: str) -> str:
        return str(self.ask("GET", f"flow_runs/{run}")["state"]["type"])

    def ended(self, run: str, seconds: float = RUN_SECONDS) -> str:
        """The final state of a flow run, waited for."""
        deadline = time.monotonic() + seconds
        while (kind := self.state(run)) not in ENDED:
            if time.monotonic() > deadline:
                return f"still {kind} after {seconds} s"
            time.sleep(1)
        return kind

    def children(self, run: str) -> dict[str, dict[str, Any]]:
        """Name -> run, of those that this run started."""
        found = self.post("flow_runs/filter", flow_runs={"parent_flow_run_id": {"any_": [run]}})
        return {one["name"]: one for one in found}

    def tasks(self, run: str) -> list[tuple[str, str]]:
        """Name and state of a run's task runs, those of earlier attempts too."""
        found = self.post("task_runs/filter", task_runs={}, flow_runs={"id": {"any_": [run]}})
        return sorted((one["name"], one["state_name"]) for one in found)

    @contextmanager
    def worker(self, pool: str = "backline") -> Iterator["subprocess.Popen[bytes]"]:
        """A worker of the pool."""
        words = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
        process = subprocess.Popen(words, cwd=ROOT, env=self.env | {"PREFECT_WORKER_QUERY_SECONDS": "2"})
        try:
            yield process
        finally:
            end(process)


def until(done: Callable[[], bool], what: str, seconds: float = RUN_SECONDS) -> None:
    """Wait for what happens elsewhere."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)


def end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:  # not ours to test: a worker waits for a server whose SQLite is locked
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
