"""The loop: two stages, resume without a trace, stop on request, refuse what is another run."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from synthetic_dataset import song, write_dataset

from model import checkpoint, endings, journal
from model.checkpoint import STATE, WEIGHTS, resolve
from model.config import ModelConfig, StageConfig, TrainingConfig, TrainRun
from model.lock import sole_trainer
from model.optimisation import learning_rate
from model.stopping import RESUME_ME, StopRequest
from model.train import Outcome, Trainer, main, train
from pipeline.errors import BadInput

TINY = ModelConfig(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, ffn=32, prefix_width=8, attention_dropout=0.2)
NEVER = 1000  # steps: later than any run here ends
SCALARS = {"loss", "cml", "rtd", "lr", "grad_norm", "masked_accuracy", "tokens_per_second"}


def recipe(steps: int = 3, accumulation: int = 2, **training: object) -> TrainRun:
    stages = [
        StageConfig(
            name=f"stage{n}", split=f"train-stage{n}", crop_tokens=16 * n, steps=steps, batch_size=2,
            accumulation=accumulation, learning_rate=1e-2, warmup_steps=1,
        )
        for n in (1, 2)
    ]  # fmt: skip
    settings = {"precision": "no", "crop_mode": "slice", "log_with": "", "log_every": 1, "checkpoint_every": 2}
    return TrainRun(model=TINY, training=TrainingConfig.model_validate({**settings, "stages": stages, **training}))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    songs = [song(f"s{i}", 400, seed=i, variants=2) for i in range(3)]
    held_out = [song(f"v{i}", 60, seed=9 + i, split="val") for i in range(2)]
    return write_dataset(
        tmp_path_factory.mktemp("data"), {"train-stage1": [songs], "train-stage2": [songs[:2]], "val": [held_out]}
    )


class StopAt(StopRequest):
    """Asked to stop when the run has taken so many steps."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step

    @property
    def requested(self) -> bool:  # type: ignore[override]
        return len(journal.read(self.folder)) >= self.step


def another_build(folder: Path) -> Path:
    songs = [song(f"s{i}", 300, seed=i) for i in range(2)]
    return write_dataset(folder, {"train-stage1": [songs], "train-stage2": [songs]})


def weights(folder: Path) -> bytes:
    return (resolve(folder) / WEIGHTS).read_bytes()


def told(folder: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "mfu")} for line in journal.read(folder)]


def test_two_stages_leave_weights_of_each_and_a_line_for_every_step(dataset: Path, tmp_path: Path) -> None:
    outcome = train(recipe(log_with="tensorboard"), dataset, tmp_path)
    assert outcome == Outcome(True, 6, tmp_path / "final")
    assert checkpoint.complete(tmp_path / "after-stage1")
    lines = journal.read(tmp_path)
    assert [(line["step"], line["stage"]) for line in lines] == [
        (n, "stage1" if n < 4 else "stage2") for n in range(1, 7)
    ]
    assert all(set(line) >= SCALARS for line in lines)
    assert [("val_nll" in line) for line in lines] == [False, False, True] * 2
    assert 8 < float(lines[2]["val_nll"]) < 11, "near log 16384 = 9.7 for a network that has seen six steps"
    assert list(tmp_path.glob("tracker/backline/events*"))


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 5])  # 0 before the first step, 3 between the stages
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(dataset: Path, tmp_path: Path, stop: int) -> None:
    undisturbed, stopped = tmp_path / "a", tmp_path / "b"
    train(recipe(), dataset, undisturbed)
    first = Trainer(recipe(), dataset, stopped, StopAt(stopped, stop))()
    assert (first.finished, first.step) == (False, stop)
    assert train(recipe(), dataset, stopped).finished
    assert weights(stopped) == weights(undisturbed)
    assert told(stopped) == told(undisturbed)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_stop_saves_nothing_that_is_saved(dataset: Path, tmp_path: Path, stop: int) -> None:
    """At steps 2 (`checkpoint_every`) and 3 (a stage's end) there is a checkpoint: the stop's grace is short."""
    saved: list[str] = []

    class Told(Trainer):
        def _save(self, path: Path, with_state: bool) -> None:
            saved.append(path.name)
            super()._save(path, with_state)

    for _ in range(2):  # the second one is stopped before it takes a step
        outcome = Told(recipe(), dataset, tmp_path, StopAt(tmp_path, stop))()
        assert (outcome.step, outcome.checkpoint) == (stop, tmp_path / f"step-{stop:08d}")
        assert checkpoint.complete(outcome.checkpoint)
    steps = [int(name.removeprefix("step-")) for name in saved if name.startswith("step-")]
    assert steps == {1: [1], 2: [2], 3: [2, 3]}[stop]


def test_other_numbers_of_processes_are_told(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved = Trainer(recipe(), dataset, tmp_path, StopAt(tmp_path, 1))().checkpoint
    found = checkpoint.load(saved)
    state = found.state()
    two = checkpoint.TrainState(state.optimizer, state.weights, state.rng * 2)
    checkpoint.save(saved, found.weights(), found.run, found.progress, two)
    assert train(recipe(), dataset, tmp_path).finished
    assert "was saved by 2 processes, here are 1" in caplog.text
    assert "launch 2 to go on as before" in caplog.text


def test_a_killed_run_goes_on_from_its_newest_checkpoint(dataset: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "a", tmp_path / "b"
    train(recipe(), dataset, undisturbed)
    newest = Trainer(recipe(), dataset, killed, StopAt(killed, 5))().checkpoint
    (newest / STATE).write_bytes(b"cut")
    train(recipe(), dataset, killed)
    assert weights(killed) == weights(undisturbed)
    assert told(killed) == told(undisturbed)


def test_a_run_with_a_mean_of_weights_keeps_the_mean_and_resumes_the_weights(dataset: Path, tmp_path: Path) -> None:
    undisturbed, stopped, plain = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    train(recipe(weight_mean=0.5), dataset, undisturbed)
    assert not Trainer(recipe(weight_mean=0.5), dataset, stopped, StopAt(stopped, 3))().finished
    train(recipe(weight_mean=0.5), dataset, stopped)
    assert weights(stopped) == weights(undisturbed)
    assert told(stopped) == told(undisturbed)
    train(recipe(), dataset, plain)
    assert [line["loss"] for line in told(plain)] == [line["loss"] for line in told(undisturbed)]
    assert weights(plain) != weights(undisturbed)


def test_sigterm_ends_the_step_saves_and_says_resume_me(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(recipe(steps=100_000).model_dump_json())
    out = tmp_path / "out"

    def terminate() -> None:
        while len(journal.read(out)) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=terminate, daemon=True).start()
    code = main(["--run", str(tmp_path / "run.json"), "--dataset", str(dataset), "--out", str(out)])
    assert code == RESUME_ME
    assert checkpoint.load(out).progress.step == journal.read(out)[-1]["step"]
    assert signal.getsignal(signal.SIGTERM) == before
    assert endings.ending(out) == "stopped"
    assert "saved after step" in (out / endings.STOPPED).read_text()


def test_a_signal_to_all_processes_of_a_job_saves_and_says_resume_me(dataset: Path, tmp_path: Path) -> None:
    """As SLURM and systemd send it: to the trainer and to its data workers."""
    out, run = tmp_path / "out", tmp_path / "run.json"
    run.write_text(recipe(steps=100_000, workers=2).model_dump_json())
    words = ["-m", "model.train", "--run", run, "--dataset", dataset, "--out", out]
    trainer = subprocess.Popen([sys.executable, *map(str, words)], start_new_session=True)
    try:
        while len(journal.read(out)) < 2:
            assert trainer.poll() is None
            time.sleep(0.05)
        os.killpg(trainer.pid, signal.SIGTERM)
        assert trainer.wait(timeout=120) == RESUME_ME
    finally:
        trainer.kill()
    assert endings.ending(out) == "stopped"
    assert checkpoint.load(out).progress.step == journal.read(out)[-1]["step"]


def test_a_finished_run_is_left_alone(dataset: Path, tmp_path: Path) -> None:
    train(recipe(), dataset, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert train(recipe(), dataset, tmp_path).finished
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("stop", [1, NEVER])
def test_another_recipe_in_the_same_folder_is_refused(dataset: Path, tmp_path: Path, stop: int) -> None:
    Trainer(recipe(), dataset, tmp_path, StopAt(tmp_path, stop))()
    assert checkpoint.complete(tmp_path / "final") is (stop == NEVER)
    with pytest.raises(BadInput, match=r"training\.clip was 1\.0, given 0\.5; give the old recipe") as caught:
        train(recipe(clip=0.5), dataset, tmp_path)
    assert caught.value.reason == "other_run"


@pytest.mark.parametrize("stop", [1, NEVER])
def test_another_build_of_the_data_is_refused(dataset: Path, tmp_path: Path, stop: int) -> None:
    Trainer(recipe(), dataset, tmp_path / "out", StopAt(tmp_path / "out", stop))()
    other = another_build(tmp_path / "data")
    with pytest.raises(BadInput, match="another build") as caught:
        train(recipe(), other, tmp_path / "out")
    assert caught.value.reason == "other_data"


def test_a_dataset_that_is_rebuilt_during_stage_1_is_not_read_by_stage_2(dataset: Path, tmp_path: Path) -> None:
    mine, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(dataset, mine)

    class Rebuild(StopRequest):
        """Never stops; builds the dataset again after the first step."""

        @property
        def requested(self) -> bool:  # type: ignore[override]
            if len(journal.read(out)) == 1:
                another_build(mine)
            return False

        @requested.setter
        def requested(self, value: bool) -> None:
            pass

    with pytest.raises(BadInput, match=r"rebuilt since this run began.*with a new --out") as caught:
        Trainer(recipe(), mine, out, Rebuild())()
    assert caught.value.reason == "other_data"
    lines = journal.read(out)
    assert {line["stage"] for line in lines} == {"stage1"}
    assert 8 < float(lines[-1]["val_nll"]) < 11, "validation kept to the songs that the stage began with"


def test_a_second_trainer_in_the_same_folder_is_refused(dataset: Path, tmp_path: Path) -> None:
    with sole_trainer(tmp_path), pytest.raises(BadInput, match="another trainer") as caught:
        train(recipe(), dataset, tmp_path)
    assert caught.value.reason == "in_use"
    assert train(recipe(), dataset, tmp_path).finished


def test_whoever_finds_a_trainer_at_work_says_nothing_in_its_folder(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(recipe().model_dump_json())
    with sole_trainer(tmp_path):
        assert main(["--run", str(tmp_path / "run.json"), "--dataset", str(dataset), "--out", str(tmp_path)]) == 1
    assert endings.ending(tmp_path) == "crashed"
    assert endings.refusal(tmp_path) == ""


def test_main_says_what_is_wrong_and_returns_1(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run.json").write_text(recipe().model_dump_json())
    arguments = ["--run", str(tmp_path / "run.json"), "--dataset", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "build the dataset first" in caplog.text
    assert endings.ending(tmp_path / "out") == "refused"
    assert "build the dataset first" in endings.refusal(tmp_path / "out")


def test_settings_that_are_none_are_refused_by_name(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"modle": {}}')
    assert main(["--run", str(tmp_path / "run.json"), "--dataset", str(dataset), "--out", str(tmp_path)]) == 1
    assert "backline train --prepare" in endings.refusal(tmp_path)


def test_a_new_start_forgets_how_the_last_one_ended(dataset: Path, tmp_path: Path) -> None:
    endings.refused(tmp_path, "too wide")
    endings.stopped(tmp_path, 3)
    assert endings.ending(tmp_path) == "refused"
    train(recipe(), dataset, tmp_path)
    assert endings.ending(tmp_path) == "finished"


def test_rate_rises_linearly_then_falls_as_a_cosine() -> None:
    stage = StageConfig(name="s", split="s", crop_tokens=1, steps=110, learning_rate=2.0, warmup_steps=10)
    assert [learning_rate(stage, step) for step in (0, 4, 9, 10)] == [0.2, 1.0, 2.0, 2.0]
    assert learning_rate(stage, 60) == pytest.approx(1.0)
    assert learning_rate(stage, 85) == pytest.approx(1 + math.cos(math.pi * 0.75))


@pytest.mark.slow
def test_two_processes_train_what_one_trains_with_twice_the_accumulation(dataset: Path, tmp_path: Path) -> None:
    model = TINY.model_copy(update={"attention_dropout": 0.0})
    for name, processes, accumulation in (("one", 1, 2), ("two", 2, 1)):
        run = recipe(accumulation=accumulation).model_copy(update={"model": model})
        (tmp_path / f"{name}.json").write_text(run.model_dump_json())
        several = ["--multi_gpu"] if processes > 1 else ["--cpu"]  # Accelerate's word for torchrun: gloo on CPU
        launch = [sys.executable, "-m", "accelerate.commands.launch", *several, "--num_processes", str(processes)]
        launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        launch += ["--module", "model.train", "--run", str(tmp_path / f"{name}.json")]
        launch += ["--dataset", str(dataset), "--out", str(tmp_path / name)]
        subprocess.run(launch, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120)
    one, two = (checkpoint.load(tmp_path / name) for name in ("one", "two"))
    assert one.progress == two.progress
    for name, tensor in one.weights().items():
        torch.testing.assert_close(tensor, two.weights()[name], rtol=1e-4, atol=1e-5)
    first, second = ([line["loss"] for line in told(tmp_path / name)] for name in ("one", "two"))
    assert first == pytest.approx(second, rel=1e-4)
    assert json.loads((tmp_path / "two" / "final" / "progress.json").read_text())["step"] == 6
