"""`backline deploy` on a real server: run forms, limits, watch, pools; and what Retry runs again."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from prefect.client.orchestration import get_client
from prefect_server import ROOT, Server
from typer.testing import CliRunner

from flows.build_dataset import BuildParameters
from flows.cli.main import commands
from flows.deploying import TARGETS
from flows.server_setup import WATCH, make_gpu_limit, make_pool, set_up
from flows.slots import GPU_LIMIT
from flows.work import ALL_STAGES, open_build
from pipeline.records.ledger import Ledger

pytestmark = pytest.mark.timeout(2400)


def test_page_asks_the_port_that_the_server_listens_on(server: Server) -> None:
    assert httpx.get(server.api.replace("/api", "/ui-settings")).json()["api_url"] == server.api


def test_run_forms_show_literal_defaults_and_descriptions(deployments: dict[str, dict[str, Any]]) -> None:
    names = ("build-dataset", "build-partition", "train-model", "evaluate-model")
    assert set(deployments) == {f"{name}/pool" for name in names}
    assert all(deployment["enforce_parameter_schema"] for deployment in deployments.values())
    assert all("backline" in deployment["tags"] for deployment in deployments.values())
    form = deployments["build-dataset/pool"]["parameter_openapi_schema"]["definitions"]["BuildParameters"]["properties"]
    shown = {name: field["default"] for name, field in form.items() if "default" in field}
    assert shown == {
        "recipe": "demo",
        "stages": ALL_STAGES,
        "force": False,
        "engine": "local",
        "overrides": [],
        "only_batches": [],
        "limit": 0,
        "fan_out": "",
        "partition_batches": 80,
    }
    part = deployments["build-partition/pool"]["parameter_openapi_schema"]["definitions"]["PartitionParameters"]
    assert part["properties"]["batches"]["maxItems"] == 80
    for fields in (form, part["properties"]):
        assert all(field.get("description") for field in fields.values())


def test_limit_and_watch_are_made_once_and_stay_as_a_person_sets_them(
    server: Server, deployments: dict[str, dict[str, Any]]
) -> None:
    with server.here(), get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name(GPU_LIMIT).limit == 1
        set_up(gpu_slots=3)
        assert client.read_global_concurrency_limit_by_name(GPU_LIMIT).limit == 1
        (watch,) = client.read_automations_by_name(WATCH)
    assert watch.enabled


def test_no_limit_is_made_where_none_is_wanted(server: Server) -> None:
    with server.here(), get_client(sync_client=True) as client:
        client.delete_global_concurrency_limit_by_name(GPU_LIMIT)
        make_gpu_limit(0)
        assert GPU_LIMIT not in {limit.name for limit in client.read_global_concurrency_limits()}


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_server_takes_the_pools_and_the_variables_that_deployments_set(server: Server, kind: Any) -> None:
    target = TARGETS[kind]
    with server.here():
        for _ in range(2):  # the second changes nothing
            make_pool(target.pool, kind, ROOT / "infra" / target.template)
        with get_client(sync_client=True) as client:
            pool = client.read_work_pool(target.pool)
    assert pool.type == kind
    assert pool.base_job_template == json.loads((ROOT / "infra" / target.template).read_text())


def test_deploy_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    told = CliRunner().invoke(commands, ["deploy"])
    assert "PREFECT_API_URL is not set" in str(told.exception)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    told = CliRunner().invoke(commands, ["deploy", "--infra", str(tmp_path)])
    assert "give the checkout's folder infra" in str(told.exception)


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """A tone, and a text that says it is an mp3."""
    folder = tmp_path / "songs"
    folder.mkdir()
    soundfile.write(folder / "b-tone.wav", 0.2 * np.sin(2 * np.pi * 220 * np.arange(48_000 * 8) / 48_000), 48_000)
    (folder / "a-notes.mp3").write_text("no audio")
    return folder


def test_retry_runs_the_failed_batch_and_takes_the_other_from_the_cache(
    server: Server, worker: None, songs: Path, tmp_path: Path
) -> None:
    build = BuildParameters(
        library=str(songs), root=str(tmp_path / "root"), stages=["detection"], overrides=["library.batch_size=1"]
    )
    context = open_build(build)
    block = Ledger(context.root).directory("detection", context.keys["detection"]) / "part-00001.parquet"
    block.mkdir(parents=True)  # where the ledger wants to write a file
    run = server.run(build)
    assert server.ended(run) == "FAILED"
    block.rmdir()
    server.retry(run)
    assert server.ended(run) == "COMPLETED"
    rows = Ledger(context.root).all_rows("detection", context.keys["detection"])
    assert sorted((row.status, row.reason) for row in rows.values()) == [
        ("quarantined", "unreadable"),
        ("rejected", "instrumental"),
    ]
    assert {("detection-0", "Cached"), ("detection-1", "Completed")} <= set(server.tasks(run))
