"""Builds whose server is restarted or loses their events make the same dataset; a run whose machine dies is told of."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.types.entrypoint import EntrypointType
from prefect_server import ROOT, Server, until
from rehearsals import SONGS, manifest_of, rehearsal

from flows.bench.server import processes
from flows.build_dataset import BuildParameters, build_dataset
from flows.deploying import TARGETS
from flows.server_setup import SILENCE, TAG, WATCH, make_pool, make_watch
from flows.work import open_build
from pipeline.records.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
SLOWLY = "rehearsal={sleep: 0.1}"  # changes no byte
BUILD_SECONDS = 600


def rows(build: BuildParameters, stage: str) -> int:
    context = open_build(build)
    return len(Ledger(context.root).all_rows(stage, context.keys[stage]))


@contextmanager
def building(build: BuildParameters, server: Server) -> Iterator["subprocess.Popen[bytes]"]:
    """`backline build` in a process of its own."""
    words = ["build", "--library", build.library, "--root", build.root]
    for text in build.overrides:
        words += ["--set", text]
    process = subprocess.Popen([sys.executable, "-m", "flows.cli", *words], cwd=ROOT, env=server.env)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def newest_run(server: Server) -> str:
    found = server.post(
        "flow_runs/filter", sort="START_TIME_DESC", limit=1, flows={"name": {"any_": ["build-dataset"]}}
    )
    return str(found[0]["id"])


def test_server_that_is_away_holds_nothing_up_and_learns_the_end(
    server: Server, undisturbed: str, tiny: Path, tmp_path: Path
) -> None:
    build = rehearsal(tiny, tmp_path, SLOWLY)
    with building(build, server) as process:
        until(lambda: rows(build, "detection") > 0, "detection begins")
        server.stop()
        try:
            begun = rows(build, "quality")
            until(lambda: rows(build, "quality") >= min(SONGS // 2, begun + 8), "quality goes on without a server")
        finally:
            server.start()
        assert process.wait(BUILD_SECONDS) == 0
    assert manifest_of(build) == undisturbed
    assert server.ended(newest_run(server)) == "COMPLETED"


@pytest.fixture
def deaf(server: Server) -> Iterator[Server]:
    """The server, started again so that it takes events and does nothing with them."""
    server.stop()
    server.extra = {
        f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in ("EVENT_PERSISTER", "TASK_RUN_RECORDER")
    }
    server.start()
    yield server
    server.stop()
    server.extra = {}
    server.start()


def test_events_that_get_lost_change_nothing(deaf: Server, undisturbed: str, tiny: Path, tmp_path: Path) -> None:
    build = rehearsal(tiny, tmp_path)
    with building(build, deaf) as process:
        assert process.wait(BUILD_SECONDS) == 0
    assert manifest_of(build) == undisturbed
    run = newest_run(deaf)
    assert deaf.state(run) == "COMPLETED"
    assert deaf.tasks(run) == []  # states of tasks are events: the server never learns of any


@pytest.fixture
def doomed(server: Server) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker on a pool of its own, with the deployment build-dataset/doomed, under a watch of short patience."""
    with server.here():
        make_pool("doomed", "process", ROOT / "infra" / TARGETS["process"].template)
        build_dataset.to_deployment(
            "doomed", work_pool_name="doomed", tags=[TAG], entrypoint_type=EntrypointType.MODULE_PATH,
            job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}, "working_dir": str(ROOT)},
        ).apply()  # fmt: skip
        renew_watch(timedelta(seconds=75))  # two heartbeats and a half, the least that can't be wrong
        with server.worker("doomed") as process:
            yield process
        renew_watch(SILENCE)


def renew_watch(silence: timedelta) -> None:
    with get_client(sync_client=True) as client:
        for old in client.read_automations_by_name(WATCH):
            client.delete_automation(old.id)
    make_watch(silence)


def test_run_whose_machine_dies_is_marked_as_crashed(
    server: Server, doomed: "subprocess.Popen[bytes]", tiny: Path, tmp_path: Path
) -> None:
    build = rehearsal(tiny, tmp_path, "rehearsal={sleep: 30}", stages=["fingerprint", "detection"])
    run = server.run(build, "build-dataset/doomed")
    until(lambda: server.state(run) == "RUNNING", "the run begins")
    filter_ = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    until(lambda: bool(server.post("events/filter", filter=filter_)["events"]), "the first heartbeat")
    for pid in processes(doomed.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert server.state(run) == "RUNNING"
    until(lambda: server.state(run) == "CRASHED", "the watch strikes", seconds=400)
