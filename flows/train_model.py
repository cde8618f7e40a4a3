"""Training: `accelerate launch` of stage 1, then stage 2, as one run that resumes where it stopped.

Conventions: how a run ended is read from the files that the trainer leaves in its folder (`model.endings`): launchers
swallow exit codes. A trainer that died or was told to stop crashes the run of a deployment, and the server schedules
crashed runs of training again (`flows.server_setup`); without a deployment it is tried again in place.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import torch
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.exceptions import Abort
from prefect.runtime import deployment, flow_run
from prefect.states import Crashed
from prefect.tasks import Task
from pydantic import ConfigDict, Field

from flows.form import order
from flows.model_card import trained_card
from flows.recipe import load_recipe
from flows.rescheduling import KILL_SECONDS, STOP_SECONDS, count_start, superseded, take_over, tell
from flows.trainer_log import LOG, trainer_output
from model import checkpoint, endings, lock
from model.identity import check_folder
from model.shards import manifest_sha256
from pipeline.config import Config
from pipeline.errors import BadInput, PipelineError

logger = logging.getLogger(__name__)
RUN_FILE = "train_run.json"  # in the run's folder: what `model.train` reads
RETRIES = 2  # in place, of a trainer that died after it had saved something new: memory, a device, a network; ours


class TrainingFailedError(PipelineError):
    """The trainer refused, in the words that the message repeats: the same command would fail again."""


class TrainingStoppedError(PipelineError):
    """The trainer was told to stop and saved; the same command resumes it."""


class TrainerDiedError(PipelineError):
    """The trainer ended without a word; `further`: it had saved something since it was launched."""

    def __init__(self, message: str, further: bool) -> None:
        super().__init__(message)
        self.further = further

    def __reduce__(self) -> tuple[type["TrainerDiedError"], tuple[str, bool]]:
        return TrainerDiedError, (str(self), self.further)  # Prefect pickles what a task raises


class TrainParameters(Config):
    """What to train on and where to; an unfinished run is resumed."""

    model_config = ConfigDict(json_schema_extra=order())

    recipe: str = Field(
        default="demo", description="A shipped recipe (demo, paper, upstream) or the path of a YAML file"
    )
    dataset: str = Field(description="Folder of a built dataset, such as ROOT/datasets/demo")
    out: str = Field(description="Folder of the run: checkpoints, metrics, logs; an unfinished run in it is resumed")
    processes: int = Field(default=1, ge=1, description="Processes (GPUs, or gloo processes on CPU)")
    accelerate_config: str = Field(
        default="", description="Path of an accelerate config (DDP, FSDP, nodes); empty = none"
    )
    overrides: list[str] = Field(default=[], description="Settings laid over the recipe: section.key=value")


@flow(name="train-model", persist_result=False, validate_parameters=True)
def train_model(train: TrainParameters) -> Path:
    """Train the two stages of the recipe on a dataset; the folder of the run.

    The run of a deployment crashes where its trainer died or was told to stop: the server then schedules it again.
    """
    out = Path(train.out).absolute()
    if not deployment.id:
        final = launch(prepare(train), out)
    else:
        attempt = uuid4().hex
        take_over(out, str(flow_run.id), attempt)
        words = prepare(train)
        count_start(out, str(flow_run.id), attempt)
        try:
            final = launch.with_options(retries=0)(words, out)
        except (TrainerDiedError, TrainingStoppedError) as error:
            if superseded(out, attempt):
                raise Abort(f"another attempt of this run is at work in {out}") from error  # no state: it isn't ours
            return cast(Path, Crashed(message=str(error)))  # Prefect takes a state for how the run ended
    shutil.copyfile(out / checkpoint.CARD, final / checkpoint.CARD)
    create_markdown_artifact(key="training-run", markdown=f"Run `{out}` finished; weights in `{final}`.")
    return out


def prepare(train: TrainParameters) -> list[str]:
    """Write the run's ``train_run.json`` and return the launch line: all that a job outside Prefect needs.

    `BadInput` where a trainer is at work in the folder (`in_use`), or it holds a run with other settings (`other_run`)
    or of other data (`other_data`). A ``train_run.json`` that nothing was trained with yet is replaced.
    """
    out = Path(train.out).absolute()
    run = load_recipe(train.recipe, train.overrides).train_run()
    if lock.held(out):
        raise BadInput(f"a trainer is at work in {out}; wait for it or end it first", "in_use")
    check_folder(out, run, manifest_sha256(Path(train.dataset)))
    run_file, text = out / RUN_FILE, run.model_dump_json(indent=1)
    if not run_file.exists() or run_file.read_text(encoding="utf-8") != text:
        out.mkdir(parents=True, exist_ok=True)
        run_file.write_text(text, encoding="utf-8")
    (out / checkpoint.CARD).write_text(trained_card(run, out.name, Path(train.dataset)), encoding="utf-8")
    return command(train, run_file, out)


def died_on_the_way(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether another try could help: where the trainer died, and not before it had got anywhere."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, TrainerDiedError) and error.further


@task(
    name="accelerate-launch",
    persist_result=True,
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=10,
    retry_condition_fn=died_on_the_way,
)
def launch(words: list[str], out: Path) -> Path:
    """Run the trainer; the run's final weights. A stop of this process is told to it and waited for."""
    logger.info("running %s", " ".join(words))
    if lock.held(out):
        raise TrainingFailedError(f"a trainer is at work in {out}; wait for it or end it first")
    endings.clear(out)
    before = checkpoint.latest(out)
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE"}
    with trainer_output(out) as log:  # start_new_session: its signals are ours to send
        process = subprocess.Popen(words, env=environment, start_new_session=True, stdout=log, stderr=log)
        try:
            code = process.wait()
            if lock.held(out):
                stop(process, out)  # the launcher died and left it behind
        except BaseException:
            stop(process, out)
            logger.warning("stopped: %s", _told(out, process.poll()))
            raise
    return _judged(out, code, before)


def stop(process: "subprocess.Popen[bytes]", out: Path) -> None:
    """End a trainer: a request that it answers with a checkpoint, and after STOP_SECONDS an end without one."""
    trainer = lock.holder(out)
    if trainer is None:  # it isn't that far that it would save, or works on another machine
        _signal_group(process, signal.SIGTERM)
    else:
        tell(trainer, signal.SIGTERM)  # alone: it tells the others, and its launcher would kill them after 30 s
    if _ends(process, out, STOP_SECONDS):
        return
    logger.error("%s did not stop within %.0f s and is killed", out, STOP_SECONDS)
    trainer = lock.holder(out)
    if trainer is not None:
        tell(trainer, signal.SIGKILL)  # its launcher then ends the other processes
    if not _ends(process, out, KILL_SECONDS):
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _ends(process: "subprocess.Popen[bytes]", out: Path, seconds: float) -> bool:
    """Whether launcher and trainer are gone within that time."""
    deadline = time.monotonic() + seconds
    while process.poll() is None or lock.held(out):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def _signal_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # gone meanwhile
        os.killpg(process.pid, number)


def _judged(out: Path, code: int, before: Path | None) -> Path:
    """The final weights, or the error that says what became of them."""
    ending = endings.ending(out)
    if ending == "finished":
        return out / checkpoint.FINAL
    if ending == "refused":
        raise TrainingFailedError(endings.refusal(out))
    if ending == "stopped":
        raise TrainingStoppedError(_told(out, code))
    raise TrainerDiedError(_told(out, code), further=checkpoint.latest(out) != before)


def _told(out: Path, code: int | None) -> str:
    ending, newest = endings.ending(out), checkpoint.latest(out)
    resumed = f"from {newest}" if newest else "from the start: there is no checkpoint yet"
    log = f"{out / LOG} says why" if (out / LOG).exists() else "its log is above"
    return {
        "finished": f"the run in {out} is finished",
        "refused": endings.refusal(out),
        "stopped": f"the trainer was told to stop and saved; the same command resumes {resumed}",
        "crashed": f"the trainer died (exit code {code}), {log}; the same command resumes {resumed}",
    }[ending]


def command(train: TrainParameters, run_file: Path, out: Path) -> list[str]:
    """The `accelerate launch` line of a run, to be shown and to be run."""
    words = [sys.executable, "-m", "accelerate.commands.launch"]
    if train.accelerate_config:
        words += ["--config_file", train.accelerate_config]
    else:
        words += ["--num_machines", "1", "--num_processes", str(train.processes), "--mixed_precision", "no"]
        words += ["--dynamo_backend", "no"]
        words += ["--multi_gpu"] if train.processes > 1 else []  # its launcher; gloo where there is no GPU
        words += [] if torch.cuda.is_available() or train.processes > 1 else ["--cpu"]
    return [*words, "--module", "model.train", "--run", str(run_file), "--dataset", train.dataset, "--out", str(out)]
