"""Partitions as runs of their own on a real server: the same dataset as in one process, and what a Retry runs again."""

from pathlib import Path
from typing import Any

import pytest
from prefect_server import Server, until
from pydantic import ValidationError
from rehearsals import SONGS, manifest_of, rehearsal, track

from flows.bench.server import processes
from flows.build_partition import MOST_BATCHES, OtherSettingsError, PartitionParameters, check
from flows.fan_out import NoDeploymentError, fan_out, partition
from flows.work import open_build

pytestmark = pytest.mark.timeout(2400)


@pytest.mark.slow  # seven flow runs in processes of their own: 50 s of CPU
def test_failed_partition_alone_runs_again_and_the_dataset_is_the_undisturbed_one(
    server: Server, worker: None, undisturbed: str, tiny: Path, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    fault = f"rehearsal={{faults: {{unavailable: ['separation:{track(tiny, SONGS - 1)}']}}, once: {marks}}}"
    build = rehearsal(tiny, tmp_path / "root", fault, fan_out="build-partition/pool", partition_batches=2)
    run = server.run(build)
    assert server.ended(run) == "FAILED"
    before = server.children(run)
    assert {name: child["state"]["type"] for name, child in before.items()} == {
        "fingerprint-0-1": "COMPLETED",
        "fingerprint-2-3": "COMPLETED",
        "batches-0-1": "COMPLETED",
        "batches-2-3": "FAILED",
    }
    assert "separation batch 3" in before["batches-2-3"]["state"]["message"]
    server.retry(run)
    assert server.ended(run) == "COMPLETED"
    after = server.children(run)
    assert {name: child["id"] for name, child in after.items()} == {name: child["id"] for name, child in before.items()}
    assert {name: child["run_count"] for name, child in after.items() if child["run_count"] != 1} == {"batches-2-3": 2}
    tasks = server.tasks(after["batches-2-3"]["id"])
    assert {("detection-3", "Cached"), ("separation-2", "Cached"), ("separation-3", "Failed")} <= set(tasks)
    assert ("separation-3", "Completed") in tasks
    assert manifest_of(build) == undisturbed


@pytest.mark.slow  # three flow runs in processes of their own, on a real server
def test_cancelled_build_ends_its_partitions_too(
    server: Server, deployments: dict[str, dict[str, Any]], tiny: Path, tmp_path: Path
) -> None:
    slowly = "rehearsal={sleep: 20}"  # 5 minutes a partition, longer than this test waits
    build = rehearsal(
        tiny, tmp_path / "root", slowly, fan_out="build-partition/pool", stages=["fingerprint"], partition_batches=2
    )
    with server.worker() as worker:
        run = server.run(build)
        until(lambda: states(server, run).count("RUNNING") == 2, "both partitions run")
        server.cancel(run)
        assert server.ended(run) == "CANCELLED"
        until(lambda: states(server, run) == ["CANCELLED"] * 2, "both partitions are cancelled", 120)
        until(lambda: processes(worker.pid) == [worker.pid], "their processes end", 60)


def states(server: Server, run: str) -> list[str]:
    """Of the runs that a run started."""
    return [child["state"]["type"] for child in server.children(run).values()]


def test_partition_has_the_work_of_its_build_and_stays_under_the_limit_of_task_runs(tiny: Path, tmp_path: Path) -> None:
    build = rehearsal(tiny, tmp_path, engine="ray", stages=["quality", "shards"])
    part = partition(build, open_build(build), [4, 5])
    assert (part.batches, part.engine, part.stages) == ([4, 5], "ray", ["quality", "shards"])
    assert part.overrides == build.overrides
    with pytest.raises(ValidationError, match="at most 80"):
        partition(build, open_build(build), list(range(MOST_BATCHES + 1)))


def test_partition_refuses_other_settings_and_unknown_batches(tiny: Path, tmp_path: Path) -> None:
    build = rehearsal(tiny, tmp_path)
    context = open_build(build)
    edited = open_build(rehearsal(tiny, tmp_path, "selection.gate.threshold=4.5"))
    part = partition(build, context, [0])
    with pytest.raises(OtherSettingsError, match="recipe"):
        check(edited, part)
    with pytest.raises(ValueError, match=r"batches \[0\] are not in the catalogue"):
        check(context, part)


def test_deployment_that_is_not_there_is_named(prefect: None, tiny: Path, tmp_path: Path) -> None:
    build = rehearsal(tiny, tmp_path)
    with pytest.raises(NoDeploymentError, match="backline deploy"):
        fan_out("build-partition/nowhere", build, 2, open_build(build), [0])


def test_parameters_of_a_partition_need_batches(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="batches"):
        PartitionParameters(root=str(tmp_path), batches=[])
