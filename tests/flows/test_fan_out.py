"""Partitions as runs of their own on a real server: the same dataset as in one process, and what a Retry runs again."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from prefect_server import Server
from pydantic import ValidationError

from flows.bench.tiny import write_library
from flows.build_dataset import BuildParameters, BuildResult, build_dataset, open_build
from flows.build_partition import MOST_BATCHES, OtherSettingsError, PartitionParameters, check
from flows.fan_out import NoDeploymentError, fan_out, partition
from pipeline.records import files

pytestmark = pytest.mark.timeout(900)
SONGS, BATCH = 32, 8


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a tiny library."""
    return write_library(tmp_path_factory.mktemp("tiny"), SONGS)


def rehearsal(tiny: Path, root: Path, *settings: str, **others: Any) -> BuildParameters:
    overrides = [f"library.batch_size={BATCH}", "build.workers=1", *settings]
    if not any(text.startswith("rehearsal") for text in overrides):
        overrides.append("rehearsal={}")
    return BuildParameters(library=str(tiny), root=str(root), overrides=overrides, **others)


@pytest.fixture(scope="session")
def undisturbed(prefect: None, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """The library built in one process."""
    return build_dataset(rehearsal(tiny, tmp_path_factory.mktemp("undisturbed")))


def track(tiny: Path, number: int) -> str:
    """The track id of a song of the library."""
    return sha256((tiny.parent / "0000" / f"{number:07d}.wav").read_bytes()).hexdigest()[:32]


def manifest_of(build: BuildParameters) -> str:
    context = open_build(build)
    return files.digest(context.root / "datasets" / context.recipe.name / "manifest.json")[0]


def test_failed_partition_alone_runs_again_and_the_dataset_is_the_undisturbed_one(
    server: Server, worker: None, undisturbed: BuildResult, tiny: Path, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    fault = f"rehearsal={{faults: {{unavailable: ['separation:{track(tiny, SONGS - 1)}']}}, once: {marks}}}"
    build = rehearsal(tiny, tmp_path / "root", fault, fan_out="build-partition/pool", partition_batches=2)
    run = server.run(build)
    assert server.ended(run) == "FAILED"
    before = server.children(run)
    assert {name: child["state"]["type"] for name, child in before.items()} == {
        "batches-0-1": "COMPLETED",
        "batches-2-3": "FAILED",
    }
    assert "separation batch 3" in before["batches-2-3"]["state"]["message"]
    server.retry(run)
    assert server.ended(run) == "COMPLETED"
    after = server.children(run)
    assert {name: (child["id"], child["run_count"]) for name, child in after.items()} == {
        "batches-0-1": (before["batches-0-1"]["id"], 1),
        "batches-2-3": (before["batches-2-3"]["id"], 2),
    }
    tasks = server.tasks(after["batches-2-3"]["id"])
    assert {("detection-3", "Cached"), ("separation-2", "Cached"), ("separation-3", "Failed")} <= set(tasks)
    assert ("separation-3", "Completed") in tasks
    assert undisturbed.dataset is not None
    assert manifest_of(build) == undisturbed.dataset.manifest_sha256


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
