"""Training: `accelerate launch` of stage 1, then stage 2, as one run that resumes where it stopped."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows.recipe import load_recipe
from model import checkpoint
from pipeline.config import Config
from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)
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
    final = launch(command(train, run_file, out), out)
    create_markdown_artifact(key="training-run", markdown=f"Run `{out}` finished; weights in `{final}`.")
    return out


@task(name="accelerate-launch", persist_result=True, retries=2, retry_delay_seconds=10)
def launch(words: list[str], out: Path) -> Path:
    """Run the trainer; a stop of this process reaches it, and a retry resumes from its newest checkpoint."""
    logger.info("running %s", " ".join(words))
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(
        words, env=environment, start_new_session=True
    )  # a group: the launcher forwards no signal
    try:
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(STOP_SECONDS)
        raise
    final = out / "final"
    if code == 0 and checkpoint.complete(final):
        return final
    newest = checkpoint.latest(out)
    raise TrainingFailedError(
        f"the trainer ended with exit code {code} and did not finish; its log is above; the same command resumes "
        f"{f'from {newest}' if newest else 'from the start: there is no checkpoint yet'}"
    )


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
