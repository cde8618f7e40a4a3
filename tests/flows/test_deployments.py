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


def test_run_forms_show_literal_defaults_and_descriptions(deployments: dict[str, dict[str, Any]]) -> None:
    assert set(deployments) == {"build-dataset", "train-model", "evaluate-model"}
    form = deployments["build-dataset"]["parameter_openapi_schema"]["definitions"]["BuildParameters"]["properties"]
    assert form["stages"]["default"] == ALL_STAGES
    assert form["only_batches"]["default"] == []
    assert form["force"]["default"] is False
    assert form["recipe"]["default"] == "demo"
    assert all(field.get("description") for field in form.values())
    assert all(deployment["enforce_parameter_schema"] for deployment in deployments.values())


def test_worker_runs_a_build_from_the_pool(api: str, deployments: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    songs = tmp_path / "songs"
    songs.mkdir()
    tone = 0.2 * np.sin(2 * np.pi * 220 * np.arange(48_000 * 8) / 48_000)
    soundfile.write(songs / "tone.wav", tone, 48_000)
    (songs / "notes.mp3").write_text("no audio")
    build = BuildParameters(library=str(songs), root=str(tmp_path / "root"), stages=["detection"])
    run = httpx.post(
        f"{api}/deployments/{deployments['build-dataset']['id']}/create_flow_run",
        json={"parameters": {"build": build.model_dump(mode="json")}},
    ).json()
    worker = subprocess.Popen(
        [sys.executable, "-m", "prefect", "worker", "start", "--pool", "backline", "--run-once"],
        cwd=ROOT,
        env=os.environ | {"PREFECT_WORKER_QUERY_SECONDS": "2"},
    )
    try:
        assert state_of(api, run["id"]) == "COMPLETED"
    finally:
        worker.terminate()
        worker.wait(60)
    context = open_build(build)
    rows = Ledger(context.root).all_rows("detection", context.keys["detection"])
    assert sorted((row.status, row.reason) for row in rows.values()) == [
        ("quarantined", "unreadable"),
        ("rejected", "instrumental"),
    ]


def state_of(api: str, run: str) -> str:
    """The final state of a flow run, waited for."""
    deadline = time.monotonic() + RUN_SECONDS
    kind = "none"
    while time.monotonic() < deadline:
        kind = httpx.get(f"{api}/flow_runs/{run}").json()["state"]["type"]
        if kind in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return str(kind)
        time.sleep(2)
    return f"still {kind} after {RUN_SECONDS} s"
