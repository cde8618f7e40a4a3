"""Checkpoint folders: written whole or not at all, found again after a crash, pruned without ever losing the newest.

Conventions: a folder is ``step-00000100`` (optimiser steps of the whole run), ``after-<stage>`` or ``final``; it counts
only if it holds ``COMPLETE``, which is written last and lists every file's size. All hold ``model.safetensors``,
``train_run.json`` and ``progress.json`` (enough to generate); the first kind also ``state.pt`` (to resume). The run's
card lies beside the weights, so that terms go where they go; it may be written anew and is not among the sizes.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from model.config import TrainRun
from pipeline.errors import BadInput

logger = logging.getLogger(__name__)

COMPLETE, WEIGHTS, RUN, PROGRESS, STATE = "COMPLETE", "model.safetensors", "train_run.json", "progress.json", "state.pt"
FINAL = "final"
CARD = "README.md"  # of the run, where whoever prepared it wrote one


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, and what it was trained on."""

    step: int = 0  # optimiser steps taken, all stages
    stage: int = 0  # index of the stage that the next step belongs to
    stage_step: int = 0  # steps taken in that stage
    samples: int = 0  # rows drawn, all stages and processes: the position in the Sobol stream
    stage_samples: int = 0  # rows drawn in this stage
    reference_impossible: int = 0  # rows so far whose song left no room for a reference window
    manifest_sha256: str = ""
    codec_sha256: str = ""  # of the codec weights that made the shards; empty = not recorded
    conditioner_sha256: str = ""


@dataclass(frozen=True, slots=True)
class TrainState:
    """What resuming needs beyond the weights."""

    optimizer: Mapping[str, Any]  # AdamW's state_dict
    weights: Mapping[str, torch.Tensor]  # as trained, where model.safetensors holds their moving average; else empty
    rng: tuple[Mapping[str, torch.Tensor], ...]  # per process: "cpu" and, on GPUs, "cuda"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    path: Path
    run: TrainRun
    progress: Progress

    def weights(self) -> dict[str, torch.Tensor]:
        tensors: dict[str, torch.Tensor] = load_file(self.path / WEIGHTS)
        return tensors

    def state(self) -> TrainState:
        """`BadInput` for a folder that was saved for generating only."""
        if not (self.path / STATE).exists():
            raise BadInput(f"{self.path} holds weights only, no optimiser state: it can't be resumed", "weights_only")
        raw = torch.load(self.path / STATE, map_location="cpu", weights_only=True)
        return TrainState(raw["optimizer"], raw.get("weights", {}), tuple(raw["rng"]))


def save(
    path: Path, weights: Mapping[str, torch.Tensor], run: TrainRun, progress: Progress, state: TrainState | None
) -> None:
    """Write one folder under a temporary name, fsync it, COMPLETE last, rename it. An older one is replaced."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, draft / WEIGHTS)
    (draft / RUN).write_text(run.model_dump_json(indent=2))
    (draft / PROGRESS).write_text(json.dumps(asdict(progress), indent=2))
    if state is not None:
        kept = {"optimizer": dict(state.optimizer), "weights": dict(state.weights), "rng": [dict(r) for r in state.rng]}
        torch.save(kept, draft / STATE)
    sizes = {file.name: file.stat().st_size for file in sorted(draft.iterdir())}
    if (path.parent / CARD).is_file():
        shutil.copyfile(path.parent / CARD, draft / CARD)
    for file in draft.iterdir():
        _sync(file)
    (draft / COMPLETE).write_text(json.dumps(sizes, indent=2))
    _sync(draft / COMPLETE)
    remove(path)
    draft.rename(path)
    _sync(path.parent)


def complete(path: Path) -> bool:
    """Whether the folder was written to its end and its files still have the sizes they were written with."""
    try:
        sizes = json.loads((path / COMPLETE).read_text())
        return all((path / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def latest(run_folder: Path) -> Path | None:
    """The newest complete ``step-*`` folder of a run."""
    done = [path for path in sorted(run_folder.glob("step-*")) if complete(path)]
    return done[-1] if done else None


def resolve(path: Path) -> Path:
    """A checkpoint folder itself, or of a run's folder: `final`, else the newest complete one. `BadInput` if none."""
    for candidate in (path, path / FINAL, latest(path)):
        if candidate is not None and complete(candidate):
            return candidate
    raise BadInput(
        f"{path} is no complete checkpoint and holds none; train first (backline train --out {path})", "missing"
    )


def load(path: Path) -> Checkpoint:
    """A complete checkpoint folder, or a run's folder (see `resolve`); `BadInput` where it can't be read."""
    folder = resolve(path)
    try:
        run = TrainRun.model_validate_json((folder / RUN).read_text())
        return Checkpoint(folder, run, Progress(**json.loads((folder / PROGRESS).read_text())))
    except (ValidationError, TypeError) as error:
        raise BadInput(
            f"{folder} has settings that this version of Backline doesn't know ({error}); use the version that it was "
            "trained with, or train anew with a new --out",
            "other_version",
        ) from error


def prune(run_folder: Path, keep: int) -> None:
    """Remove what a crash left half-written, and all but the newest `keep` complete ``step-*`` folders."""
    folders = sorted(run_folder.glob("step-*"))
    kept = [path for path in folders if complete(path)][-keep:]
    for path in [*folders, *run_folder.glob(".step-*"), *run_folder.glob(".final.*"), *run_folder.glob(".after-*")]:
        if path not in kept:
            remove(path)


def remove(path: Path) -> None:
    """Delete a folder; its COMPLETE goes first, so that an interrupted removal never looks like a checkpoint."""
    if path.exists():
        (path / COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
