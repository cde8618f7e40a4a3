"""The training flow: what a folder accepts, what is tried again, a stop that is waited for; with the real launcher."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prefect.states import Completed, Failed
from synthetic_dataset import song, write_dataset

from flows import train_model as flow
from flows.train_model import (
    TrainerDiedError,
    TrainingFailedError,
    TrainParameters,
    died_on_the_way,
    launch,
    prepare,
)
from model import checkpoint, endings, journal
from model.checkpoint import Progress
from model.config import TrainRun
from model.lock import holder, sole_trainer
from model.shards import manifest_sha256
from pipeline.errors import BadInput

ENDLESS = 100_000  # steps, so that only a stop ends it in time
STOPPABLE = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(143));"
LAUNCH = "import json; from pathlib import Path; from flows.train_model import launch;"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    songs = [song(f"s{i}", 200, seed=i) for i in range(3)]
    return write_dataset(tmp_path_factory.mktemp("data"), {"train-stage1": [songs]})


def parameters(dataset: Path, out: Path, steps: int = 3, processes: int = 1, *overrides: str) -> TrainParameters:
    stage = {"name": "stage1", "split": "train-stage1", "crop_tokens": 16, "steps": steps, "batch_size": 2}
    small = "{layers: 1, width: 16, heads: 2, kv_heads: 1, head_dim: 8, ffn: 32, prefix_width: 8}"
    settings = [
        f"model={small}",
        f"training.stages={json.dumps([stage])}",
        "training.log_every=1",
        "training.log_with=''",
    ]
    return TrainParameters(
        recipe="demo", dataset=str(dataset), out=str(out), processes=processes, overrides=[*settings, *overrides]
    )


def trained(run: TrainParameters, folder: str = "final") -> TrainRun:
    """A folder as training under these parameters leaves it, as far as its identity goes."""
    prepare(run)
    settings = TrainRun.model_validate_json((Path(run.out) / "train_run.json").read_text())
    checkpoint.save(
        Path(run.out) / folder, {}, settings, Progress(step=3, manifest_sha256=manifest_sha256(Path(run.dataset))), None
    )
    return settings


def test_prepare_writes_the_run_and_returns_its_launch_line(dataset: Path, tmp_path: Path) -> None:
    words = prepare(parameters(dataset, tmp_path / "run", steps=7))
    written = tmp_path / "run" / "train_run.json"
    assert TrainRun.model_validate_json(written.read_text()).training.stages[0].steps == 7
    assert words[words.index("--module") + 1 :][:3] == ["model.train", "--run", str(written)]


def test_a_run_that_nothing_was_trained_with_is_replaced(dataset: Path, tmp_path: Path) -> None:
    prepare(parameters(dataset, tmp_path, steps=7))
    prepare(parameters(dataset, tmp_path, steps=8))
    assert TrainRun.model_validate_json((tmp_path / "train_run.json").read_text()).training.stages[0].steps == 8


@pytest.mark.parametrize("folder", ["final", "step-00000002"])
def test_a_trained_folder_takes_its_own_recipe_and_refuses_others(dataset: Path, tmp_path: Path, folder: str) -> None:
    trained(parameters(dataset, tmp_path), folder)
    before = (tmp_path / "train_run.json").stat().st_mtime_ns
    prepare(parameters(dataset, tmp_path))
    with pytest.raises(
        BadInput, match=r"training\.clip was 1\.0, given 0\.5; give the old recipe or a new --out"
    ) as caught:
        prepare(parameters(dataset, tmp_path, 3, 1, "training.clip=0.5"))
    assert caught.value.reason == "other_run"
    assert (tmp_path / "train_run.json").stat().st_mtime_ns == before


def test_a_trained_folder_refuses_another_build_of_the_data(dataset: Path, tmp_path: Path) -> None:
    trained(parameters(dataset, tmp_path / "run"))
    other = write_dataset(tmp_path / "other", {"train-stage1": [[song("x", 200)]]})
    with pytest.raises(BadInput, match="another build of the dataset") as caught:
        prepare(parameters(other, tmp_path / "run"))
    assert caught.value.reason == "other_data"


def test_a_folder_in_use_is_refused_before_anything_is_written(dataset: Path, tmp_path: Path) -> None:
    with sole_trainer(tmp_path):
        assert holder(tmp_path) == os.getpid()
        with pytest.raises(BadInput, match="a trainer is at work"):
            prepare(parameters(dataset, tmp_path))
        with pytest.raises(TrainingFailedError, match="a trainer is at work"):
            launch.fn(["true"], tmp_path)
    assert holder(tmp_path) is None
    assert not (tmp_path / "train_run.json").exists()


def test_only_a_trainer_that_died_after_it_got_further_is_tried_again() -> None:
    assert _tried_again(TrainerDiedError("died", further=True))
    assert not _tried_again(TrainerDiedError("died", further=False))
    assert not _tried_again(TrainingFailedError("refused"))
    assert not died_on_the_way(None, None, Completed(data=1))  # type: ignore[arg-type]


def _tried_again(error: Exception) -> bool:
    return died_on_the_way(None, None, Failed(data=error))  # type: ignore[arg-type]


@pytest.mark.parametrize(("saves", "further"), [("", False), ("step-00000001", True)])
def test_a_trainer_that_dies_says_where_the_same_command_resumes(
    dataset: Path, tmp_path: Path, saves: str, further: bool
) -> None:
    donor = tmp_path / "donor"
    trained(parameters(dataset, donor), "step-00000001")
    out = tmp_path / "run"
    out.mkdir()
    save = f"import shutil; shutil.copytree(r'{donor / saves}', r'{out / saves}');" if saves else ""
    with pytest.raises(TrainerDiedError, match="the same command resumes from") as caught:
        launch.fn([sys.executable, "-c", f"{save} import os; os._exit(9)"], out)
    assert caught.value.further is further


def test_a_trainer_that_ignores_a_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "STOP_SECONDS", 0.5)
    deaf = (
        "import signal, time; from pathlib import Path; from model.lock import sole_trainer;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"with sole_trainer(Path(r'{tmp_path}')): time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", deaf], cwd=ROOT, start_new_session=True)
    while holder(tmp_path) is None:
        time.sleep(0.05)
    started = time.monotonic()
    flow.stop(process, tmp_path)
    assert process.returncode == -signal.SIGKILL
    assert time.monotonic() - started < 10
    assert endings.ending(tmp_path) == "crashed"


@pytest.mark.timeout(120)
def test_a_refusal_of_the_trainer_reaches_the_flow_in_its_own_words(dataset: Path, tmp_path: Path) -> None:
    words = prepare(parameters(dataset, tmp_path, 3, 1, "model.prefix_width=16"))
    with pytest.raises(TrainingFailedError, match=r"prefix vectors of .* are 8 wide; set model\.prefix_width"):
        launch.fn(words, tmp_path)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stopped_flow_waits_for_the_checkpoint_and_the_same_command_resumes(
    dataset: Path, tmp_path: Path, processes: int
) -> None:
    run = parameters(dataset, tmp_path, ENDLESS, processes)
    words = prepare(run)
    code = f"{STOPPABLE} {LAUNCH} launch.fn({json.dumps(words)}, Path({str(tmp_path)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while len(journal.read(tmp_path)) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert endings.ending(tmp_path) == "stopped"
    newest = checkpoint.latest(tmp_path)
    assert newest is not None
    step = checkpoint.load(newest).progress.step
    assert f"saved after step {step}" in (tmp_path / endings.STOPPED).read_text()

    _shorten(tmp_path, step + 2)  # else the same command would train on for hours
    assert launch.fn(words, tmp_path) == tmp_path / "final"
    assert not (tmp_path / endings.STOPPED).exists()
    assert checkpoint.load(tmp_path / "final").progress.step == step + 2


def _shorten(out: Path, steps: int) -> None:
    """Let the run in `out` have begun with fewer steps."""
    run = TrainRun.model_validate_json((out / "train_run.json").read_text())
    stage = run.training.stages[0].model_copy(update={"steps": steps})
    short = run.model_copy(update={"training": run.training.model_copy(update={"stages": (stage,)})})
    (out / "train_run.json").write_text(short.model_dump_json())
    newest = checkpoint.latest(out)
    assert newest is not None
    found = checkpoint.load(newest)
    checkpoint.save(newest, found.weights(), short, found.progress, found.state())
