"""Training: `accelerate launch` of stage 1, then stage 2, as one run that resumes where it stopped."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import torch
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows.recipe import load_recipe
from pipeline.config import Config
from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)
RESUME_ME = 75  # EX_TEMPFAIL of sysexits.h: the trainer was told to stop, saved, and wants to go on
STOP_SECONDS = 240  # a step and a checkpoint; below Kubernetes' 300 s grace in infra/


class TrainingFailedError(PipelineError):
    """The trainer ended without finishing; the run folder holds the newest checkpoint, and the same command resumes
    it.
    """


class TrainParameters(Config):
    """What a training run takes; the run form in the UI shows these."""

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
    """Train the two stages of the recipe on a dataset; the folder of the run."""
    recipe = load_recipe(train.recipe, train.overrides)
    out = Path(train.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    run_file = out / "train_run.json"
    run_file.write_text(recipe.train_run().model_dump_json(indent=1), encoding="utf-8")
    launch(command(train, run_file, out))
    create_markdown_artifact(key="training-run", markdown=f"Run `{out}` finished; weights in `{out / 'final'}`.")
    return out


@task(name="accelerate-launch", persist_result=True, retries=2, retry_delay_seconds=10)
def launch(words: list[str]) -> int:
    """Run the trainer; SIGTERM to this process reaches it, and a retry resumes from its newest checkpoint."""
    logger.info("running %s", " ".join(words))
    process = subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())})
    try:
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(STOP_SECONDS)
    if code == RESUME_ME:
        raise TrainingFailedError("the trainer was stopped and saved a checkpoint; run the same command to resume")
    if code != 0:
        raise TrainingFailedError(
            f"the trainer ended with exit code {code}; its log is above; the same command resumes the run"
        )
    return code


def command(train: TrainParameters, run_file: Path, out: Path) -> list[str]:
    """The `accelerate launch` line of a run, to be shown and to be run."""
    words = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(train.processes)]
    if train.accelerate_config:
        words += ["--config_file", train.accelerate_config]
    else:
        words += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        words += [] if torch.cuda.is_available() else ["--cpu"]
    return [*words, "--module", "model.train", "--run", str(run_file), "--dataset", train.dataset, "--out", str(out)]
