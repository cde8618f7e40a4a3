"""`backline deploy`: work pool, deployments, GPU limit and watch on a Prefect server that runs elsewhere."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import PipelineError

PoolKind = Literal["process", "docker", "kubernetes"]


class DeployError(PipelineError):
    """The deployments could not be made."""


@dataclass(frozen=True, slots=True)
class Target:
    """A work pool and the files in infra/ that describe it."""

    pool: str
    template: str
    deployments: str


TARGETS: dict[PoolKind, Target] = {
    "process": Target("backline", "process/pool.json", "prefect.yaml"),
    "docker": Target("backline-docker", "docker/pool.json", "docker/prefect.yaml"),
    "kubernetes": Target("backline-kubernetes", "kubernetes/pool.json", "kubernetes/prefect.yaml"),
}


def deploy(kind: PoolKind, infra: Path, gpu_slots: int) -> str:
    """Everything for one kind of work pool; the pool's name. Run again, it changes what infra/ says otherwise."""
    if not os.environ.get("PREFECT_API_URL"):
        raise DeployError("PREFECT_API_URL is not set: where is the Prefect server? e.g. http://127.0.0.1:4200/api")
    target, infra = TARGETS[kind], infra.absolute()
    if not (infra / target.deployments).is_file():
        raise DeployError(f"{infra / target.deployments} is not there; give the checkout's folder infra with --infra")
    from flows.server_setup import make_pool, set_up

    make_pool(target.pool, kind, infra / target.template)
    words = ["deploy", "--all", "--prefect-file", str(infra / target.deployments)]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *words],
        cwd=infra.parent,
        env={"BACKLINE_HOME": str(infra.parent)} | os.environ,
        check=False,
    )
    if done.returncode:
        raise DeployError(f"`prefect {' '.join(words)}` ended with code {done.returncode}; its output is above")
    set_up(gpu_slots)
    return target.pool
