"""Checkpoint folders: whole or absent, found again, pruned without losing the newest."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.checkpoint import (
    CARD,
    COMPLETE,
    PROGRESS,
    RUN,
    STATE,
    Progress,
    TrainState,
    complete,
    latest,
    load,
    prune,
    resolve,
    save,
)
from model.config import TrainRun
from pipeline.errors import BadInput

WEIGHTS = {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.ones(1)}
STATE_OF = TrainState(
    {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}, {}, ({"cpu": torch.get_rng_state()},)
)


def make(folder: Path, *steps: int) -> None:
    for step in steps:
        save(folder / f"step-{step:08d}", WEIGHTS, TrainRun(), Progress(step=step), STATE_OF)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    progress = Progress(step=3, stage=1, samples=24, manifest_sha256="m")
    save(tmp_path / "step-00000003", WEIGHTS, TrainRun(), progress, STATE_OF)
    found = load(tmp_path / "step-00000003")
    assert (found.run, found.progress) == (TrainRun(), progress)
    assert all(torch.equal(found.weights()[name], tensor) for name, tensor in WEIGHTS.items())
    assert torch.equal(found.state().rng[0]["cpu"], STATE_OF.rng[0]["cpu"])
    assert torch.equal(found.state().optimizer["state"][0]["exp_avg"], torch.ones(2))


def test_a_folder_without_its_marker_does_not_count(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)
    (tmp_path / "step-00000002" / COMPLETE).unlink()
    assert latest(tmp_path) == tmp_path / "step-00000001"


def test_a_cut_file_does_not_count(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)
    state = tmp_path / "step-00000002" / STATE
    state.write_bytes(state.read_bytes()[:-1])
    assert not complete(state.parent)
    assert latest(tmp_path) == tmp_path / "step-00000001"


def test_a_crash_while_saving_leaves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, 1)

    def crash(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(OSError, match="no space"):
        make(tmp_path, 2)
    assert latest(tmp_path) == tmp_path / "step-00000001"
    prune(tmp_path, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_the_newest_is_found_by_number(tmp_path: Path) -> None:
    make(tmp_path, 9, 10, 100)
    assert latest(tmp_path) == tmp_path / "step-00000100"


def test_pruning_keeps_the_newest_complete_ones(tmp_path: Path) -> None:
    make(tmp_path, 1, 2, 3, 4)
    (tmp_path / "step-00000004" / COMPLETE).unlink()
    prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_a_run_resolves_to_its_final_weights_and_before_that_to_its_newest(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)
    assert resolve(tmp_path) == tmp_path / "step-00000002"
    assert resolve(tmp_path / "step-00000001") == tmp_path / "step-00000001"
    save(tmp_path / "final", WEIGHTS, TrainRun(), Progress(step=3), None)
    assert resolve(tmp_path) == tmp_path / "final"


def test_the_runs_card_goes_where_its_weights_go_and_may_be_written_anew(tmp_path: Path) -> None:
    make(tmp_path, 1)
    assert not (tmp_path / "step-00000001" / CARD).exists()  # nobody wrote one
    (tmp_path / CARD).write_text("terms")
    save(tmp_path / "final", WEIGHTS, TrainRun(), Progress(step=3), None)
    assert (tmp_path / "final" / CARD).read_text() == "terms"
    (tmp_path / "final" / CARD).write_text("the terms, told at greater length")
    assert complete(tmp_path / "final")


def test_weights_only_can_not_be_resumed(tmp_path: Path) -> None:
    save(tmp_path / "final", WEIGHTS, TrainRun(), Progress(), None)
    with pytest.raises(BadInput, match="weights only"):
        load(tmp_path / "final").state()


@pytest.mark.parametrize("name", [RUN, PROGRESS])
def test_settings_of_another_version_are_refused_by_name(tmp_path: Path, name: str) -> None:
    make(tmp_path, 1)
    file, marker = (tmp_path / "step-00000001" / part for part in (name, COMPLETE))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"newer": 1}))
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {name: file.stat().st_size}))
    with pytest.raises(BadInput, match=r"newer[\s\S]*use the version that it was trained with") as caught:
        load(tmp_path)
    assert caught.value.reason == "other_version"


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="train first"):
        load(tmp_path)


def test_saving_again_replaces(tmp_path: Path) -> None:
    make(tmp_path, 1)
    save(tmp_path / "step-00000001", {"a": torch.zeros(1)}, TrainRun(), Progress(step=1), None)
    assert set(load(tmp_path).weights()) == {"a"}
    shutil.rmtree(tmp_path / "step-00000001")
    assert latest(tmp_path) is None
