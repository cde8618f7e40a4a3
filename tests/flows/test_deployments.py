"""A real Prefect server on loopback: `prefect.yaml` is deployed to a process pool, and a worker runs a build."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from flows.build_dataset import ALL_STAGES, BuildParameters, open_build
from flows.serving import start_server
from pipeline.records.ledger import Ledger

pytestmark = [pytest.mark.timeout(600), pytest.mark.enable_socket]
ROOT = Path(__file__).parents[2]
RUN_SECONDS = 240


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a database of its own; its API's URL."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.setenv("BACKLINE_HOME", str(ROOT))
        server = start_server(port)
        patch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
        yield f"http://127.0.0.1:{port}/api"
        server.terminate()
        server.wait(30)


def prefect_command(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", *words], check=True, cwd=ROOT, env=os.environ)


@pytest.fixture(scope="module")
def deployments(api: str) -> dict[str, dict[str, Any]]:
    """Flow name -> deployment, after the two commands that infra/README.md gives."""
    prefect_command("work-pool", "create", "backline", "--type", "process")
    prefect_command("deploy", "--all", "--prefect-file", "infra/prefect.yaml")
    found = httpx.post(f"{api}/deployments/filter", json={}).json()
    flows = {flow["id"]: flow["name"] for flow in httpx.post(f"{api}/flows/filter", json={}).json()}
    return {flows[deployment["flow_id"]]: deployment for deployment in found}


def test_page_asks_the_port_that_the_server_listens_on(api: str) -> None:
    assert httpx.get(api.replace("/api", "/ui-settings")).json()["api_url"] == api


def test_run_forms_show_literal_defaults_and_descriptions(deployments: dict[str, dict[str, Any]]) -> None:
    assert set(deployments) == {"build-dataset", "train-model", "evaluate-model"}
    form = deployments["build-dataset"]["parameter_openapi_schema"]["definitions"]["BuildParameters"]["properties"]
    assert form["stages"]["default"] == ALL_STAGES
    assert form["only_batches"]["default"] == []
    assert form["force"]["default"] is False
    assert form["recipe"]["default"] == "demo"
    assert all(field.get("description") for field in form.values())
    assert all(deployment["enforce_parameter_schema"] for deployment in deployments.values())


@pytest.fixture(scope="module")
def worker(deployments: dict[str, dict[str, Any]]) -> Iterator[None]:
    """A process worker of the pool."""
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "backline"],
        cwd=ROOT,
        env=os.environ | {"PREFECT_WORKER_QUERY_SECONDS": "2"},
    )
    yield
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:  # not ours to test: it waits for a server whose SQLite was locked meanwhile
        process.kill()
        process.wait()


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A tone, and a text that says it is an mp3."""
    folder = tmp_path / "songs"
    folder.mkdir()
    soundfile.write(folder / "b-tone.wav", 0.2 * np.sin(2 * np.pi * 220 * np.arange(48_000 * 8) / 48_000), 48_000)
    (folder / "a-notes.mp3").write_text("no audio")
    return folder


def start(api: str, deployments: dict[str, dict[str, Any]], build: BuildParameters) -> str:
    """A flow run, as the run form starts it."""
    made = httpx.post(
        f"{api}/deployments/{deployments['build-dataset']['id']}/create_flow_run",
        json={"parameters": {"build": build.model_dump(mode="json")}},
    )
    return str(made.json()["id"])


def test_worker_runs_a_build_from_the_pool(
    api: str, deployments: dict[str, dict[str, Any]], worker: None, songs: Path, tmp_path: Path
) -> None:
    build = BuildParameters(library=str(songs), root=str(tmp_path / "root"), stages=["detection"])
    assert state_of(api, start(api, deployments, build)) == "COMPLETED"
    context = open_build(build)
    rows = Ledger(context.root).all_rows("detection", context.keys["detection"])
    assert sorted((row.status, row.reason) for row in rows.values()) == [
        ("quarantined", "unreadable"),
        ("rejected", "instrumental"),
    ]


def test_retry_runs_the_failed_batch_and_takes_the_other_from_the_cache(
    api: str, deployments: dict[str, dict[str, Any]], worker: None, songs: Path, tmp_path: Path
) -> None:
    build = BuildParameters(
        library=str(songs), root=str(tmp_path / "root"), stages=["detection"], overrides=["library.batch_size=1"]
    )
    context = open_build(build)
    block = Ledger(context.root).directory("detection", context.keys["detection"]) / "part-00001.parquet"
    block.mkdir(parents=True)  # where the ledger wants to write a file
    run = start(api, deployments, build)
    assert state_of(api, run) == "FAILED"
    block.rmdir()
    retry = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry"}}  # what the button Retry sends
    assert httpx.post(f"{api}/flow_runs/{run}/set_state", json=retry).json()["status"] == "ACCEPT"
    assert state_of(api, run) == "COMPLETED"
    assert len(Ledger(context.root).all_rows("detection", context.keys["detection"])) == 2
    tasks = httpx.post(f"{api}/task_runs/filter", json={"flow_runs": {"id": {"any_": [run]}}}).json()
    ended = {(task["name"], task["state_name"]) for task in tasks}
    assert {("detection-0", "Cached"), ("detection-1", "Completed")} <= ended


def state_of(api: str, run: str) -> str:
    """The final state of a flow run, waited for."""
    deadline = time.monotonic() + RUN_SECONDS
    time.sleep(2)
    kind = "none"
    while time.monotonic() < deadline:
        kind = httpx.get(f"{api}/flow_runs/{run}").json()["state"]["type"]
        if kind in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return str(kind)
        time.sleep(2)
    return f"still {kind} after {RUN_SECONDS} s"
