"""Training on a process pool: whatever is killed in mid-run, the run is scheduled again and leaves the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import uuid4

import pytest
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.events.schemas.events import Resource, ResourceSpecification
from prefect_server import ROOT, RUN_SECONDS, Server
from synthetic_dataset import song, write_dataset

from flows.rescheduling import MOST, NoProgressError, Starts, count_start, freed, superseded, take_over
from flows.server_setup import BEGINNINGS, CALM, CRASHED, no_beginning, onward
from flows.train_model import TrainParameters, prepare
from model import checkpoint, endings, journal
from model.checkpoint import Progress
from model.config import TrainRun
from model.lock import held, holder, sole_trainer

STEPS = 600
SETTINGS = [
    "model={layers: 1, width: 16, heads: 2, kv_heads: 1, head_dim: 8, ffn: 32, prefix_width: 8}",
    "training.log_every=1",
    "training.log_with=''",
    "training.checkpoint_every=25",
    "training.stages="
    + json.dumps(
        [
            {"name": f"stage{n}", "split": f"train-stage{n}", "crop_tokens": 64, "steps": STEPS // 2, "batch_size": 2}
            for n in (1, 2)
        ]
    ),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    songs = [song(f"s{i}", 200, seed=i) for i in range(3)]
    held_out = [song("v", 100, seed=9, split="val")]
    return write_dataset(
        tmp_path_factory.mktemp("data"), {"train-stage1": [songs], "train-stage2": [songs], "val": [held_out]}
    )


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def start(server: Server, train: TrainParameters) -> str:
    path = f"deployments/{server.deployments()['train-model/pool']['id']}/create_flow_run"
    body = {"train": train.model_dump(mode="json")}
    return str(server.post(path, parameters=body, idempotency_key=str(uuid4()))["id"])


def told(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "mfu")} for line in journal.read(folder)]


def at_step(out: Path, step: int, goes_on: Callable[[], bool] = lambda: True) -> int:
    """The trainer at work, once it has logged the step."""

    def there() -> bool:
        assert goes_on(), f"the run failed before step {step}"
        return len(journal.read(out)) >= step and holder(out) is not None

    until(there, f"step {step} of {out}")
    found = holder(out)
    assert found is not None
    return found


def engine_of(trainer: int) -> int:
    """The flow run's process: the parent of the launcher, which is the trainer's parent."""

    def parent(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    return parent(parent(trainer))


@pytest.mark.slow  # one server, four flow runs in processes of their own
@pytest.mark.timeout(2400)
def test_a_run_whose_trainer_or_own_process_is_killed_is_scheduled_again_and_leaves_the_same_bytes(
    server: Server, worker: None, dataset: Path, tmp_path: Path
) -> None:
    out, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    run = start(server, TrainParameters(dataset=str(dataset), out=str(out), overrides=SETTINGS))

    def goes_on() -> bool:
        return server.state(run) != "FAILED"

    os.kill(at_step(out, 40, goes_on), signal.SIGTERM)
    os.kill(at_step(out, 120, goes_on), signal.SIGKILL)
    orphan = at_step(out, STEPS // 2 + 20, goes_on)
    os.kill(orphan, signal.SIGSTOP)  # else it would be done before anybody looks
    os.kill(engine_of(orphan), signal.SIGKILL)
    until(lambda: server.ask("GET", f"flow_runs/{run}")["run_count"] == 4, "the run begins for the fourth time")
    assert holder(out) == orphan
    os.kill(orphan, signal.SIGCONT)
    until(lambda: server.state(run) in ("COMPLETED", "FAILED"), "the run ends")

    arguments = ["--run", str(out / "train_run.json"), "--dataset", str(dataset), "--out", str(undisturbed)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "model.train", *arguments], check=True, cwd=ROOT, env=one_thread)
    first, second = (folder / "final" / "model.safetensors" for folder in (out, undisturbed))
    assert first.read_bytes() == second.read_bytes()
    assert told(out) == told(undisturbed)
    names = states(server, run)
    assert (names.count("Crashed"), names.count("AwaitingRetry"), names.count("Completed")) == (3, 3, 1)


@pytest.mark.slow  # three starts of a process, waits between them
@pytest.mark.timeout(1200)
def test_a_run_whose_code_cannot_be_imported_fails_after_as_many_starts_and_says_so(
    server: Server, worker: None
) -> None:
    pool = server.deployments()["train-model/pool"]
    body = {key: pool[key] for key in ("flow_id", "work_pool_name", "pull_steps", "tags", "job_variables")}
    lost = server.post("deployments/", **body, name="lost", entrypoint="flows.lost.train_model")
    run = server.post(f"deployments/{lost['id']}/create_flow_run", parameters={})["id"]
    until(lambda: server.state(run) == "FAILED", "the run fails")
    names = states(server, run)
    assert (names.count("Crashed"), names.count("Running")) == (BEGINNINGS, 0)
    ended = server.ask("GET", f"flow_runs/{run}")["state"]
    assert "before the flow's code ran: it can't be imported" in ended["message"]
    time.sleep(CALM.total_seconds() + 15)  # what would schedule it again looks every 5 s
    assert server.state(run) == "FAILED"


def states(server: Server, run: str) -> list[str]:
    return [state["name"] for state in server.ask("GET", f"flow_run_states/?flow_run_id={run}")]


def saved(out: Path, step: int) -> None:
    checkpoint.save(out / f"step-{step:08d}", {}, TrainRun(), Progress(step=step), None)


def test_launches_that_save_nothing_new_are_counted_and_the_next_retry_counts_afresh(tmp_path: Path) -> None:
    assert [count_start(tmp_path, "a", str(n)).count for n in range(MOST)] == list(range(1, MOST + 1))
    saved(tmp_path, 5)
    assert count_start(tmp_path, "a", "4") == Starts("a", "4", "step-00000005", 1)
    for n in range(MOST - 1):
        count_start(tmp_path, "a", f"4 {n}")
    with pytest.raises(NoProgressError, match=r"3 launches in a row .* step-00000005.*trainer\.log says why"):
        count_start(tmp_path, "a", "5")
    assert count_start(tmp_path, "a", "6").count == 1


@pytest.fixture
def trainer(dataset: Path, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A trainer at work in tmp_path, launched by the flow run `mine`."""
    prepare(TrainParameters(dataset=str(dataset), out=str(tmp_path), overrides=SETTINGS))
    count_start(tmp_path, "mine", "first")
    arguments = ["--run", str(tmp_path / "train_run.json"), "--dataset", str(dataset), "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "model.train", *arguments], cwd=ROOT)
    at_step(tmp_path, 2)
    process.send_signal(signal.SIGSTOP)  # its end then can't come before the test's
    yield process
    process.kill()
    process.wait()


def test_only_the_trainer_of_the_same_run_is_ended_and_it_saves(
    trainer: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    take_over(tmp_path, "other", "second")
    assert held(tmp_path)
    assert not superseded(tmp_path, "first")
    Timer(0.3, trainer.send_signal, [signal.SIGCONT]).start()
    take_over(tmp_path, "mine", "second")
    assert not held(tmp_path)
    assert superseded(tmp_path, "first")
    assert not superseded(tmp_path, "second")
    assert endings.ending(tmp_path) == "stopped"
    newest = checkpoint.latest(tmp_path)
    assert newest is not None
    assert checkpoint.load(newest).progress.step == journal.read(tmp_path)[-1]["step"]


def test_a_folder_that_nobody_launched_in_is_left_alone(tmp_path: Path) -> None:
    with sole_trainer(tmp_path):
        take_over(tmp_path, "mine", "second")
        assert held(tmp_path)
        assert not freed(tmp_path, 0.0)
    assert freed(tmp_path, 0.0)


@pytest.mark.parametrize("automation", [onward(), no_beginning()])
def test_crashed_training_alone_is_acted_on(automation: AutomationCore) -> None:
    trigger = automation.trigger
    assert isinstance(trigger, EventTrigger)
    assert CRASHED in trigger.after | trigger.expect
    related = trigger.match_related
    assert isinstance(related, ResourceSpecification)
    tag = {"prefect.resource.id": "prefect.tag.training", "prefect.resource.role": "tag"}
    assert related.matches(Resource(tag))
    assert not related.matches(Resource(tag | {"prefect.resource.id": "prefect.tag.data"}))
