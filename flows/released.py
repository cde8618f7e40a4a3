"""The model whose weights others published, as a checkpoint of ours: converted once, kept beside what was pulled.

Conventions: a recipe names the asset (``released``); the folder is one that `generate` and `evaluate` take, without a
training run around it. Its name holds a hash of the recipe's settings, so another recipe gets another folder.
"""

import hashlib
from pathlib import Path

import torch

from flows.model_card import published_card
from flows.provenance import Maker
from flows.recipe import Recipe
from model import checkpoint
from model.config import TrainRun
from model.interchange import OPTIONAL, Weights, fitting, read_released, released_shape
from model.network import MaskPredictor
from pipeline.assets.store import Held, asset, fault_of, fingerprint, held, stated_licence
from pipeline.codec import codec
from pipeline.conditioning import conditioner
from pipeline.errors import BackendUnavailable, BadInput

FOLDER = "converted"  # in the asset's own


def released_checkpoint(recipe: Recipe) -> Path:
    """The checkpoint folder of the recipe's published weights, made where it is not there yet.

    `BackendUnavailable` where the recipe has none, or they are not on this machine or don't fit.
    """
    if not recipe.released:
        raise BackendUnavailable(
            f"nobody published weights of recipe {recipe.name!r}; train it, then name the run with --checkpoint"
        )
    weights = held(recipe.released)
    run = recipe.train_run()
    settings = hashlib.sha256(run.model_dump_json().encode()).hexdigest()
    folder = weights.folder / FOLDER / f"{weights.weights_sha256[:12]}-{settings[:12]}"
    if not checkpoint.complete(folder):
        _convert(weights, run, folder)
    return folder


def _convert(weights: Held, run: TrainRun, folder: Path) -> None:
    path = weights.tensors(weights.asset.files[0].path)
    try:
        found = read_released(path)
        run = _as_published(run, found)
        with torch.device("meta"):  # its names and shapes are all that is needed of it
            network = MaskPredictor(run.model, rtd=run.training.objective.rtd.weight > 0)
        checkpoint.save(folder, fitting(network, found, str(path)), run, checkpoint.Progress(), None)
    except BadInput as error:
        raise BackendUnavailable(f"{weights.asset.what} ({weights.asset.name}): {error}") from error
    (folder / checkpoint.CARD).write_text(published_card(run, weights, _beside(run)), encoding="utf-8")


def _beside(run: TrainRun) -> list[Maker]:
    """The codec and the conditioner that it plays with, as far as they are on this machine."""
    parts = {"codec": codec.needs(run.codec).assets, "conditioning": conditioner.needs(run.conditioning).assets}
    found = []
    for part, names in parts.items():
        for one in (asset(name) for name in names if not fault_of(asset(name))):
            found.append(Maker(part, one.name, fingerprint(one), stated_licence(one)))
    return found


def _as_published(run: TrainRun, found: Weights) -> TrainRun:
    """The recipe's run with the sizes of the weights, and without a discriminator where they have none."""
    model, rtd = released_shape(found, run.model), run.training.objective.rtd
    if not any(name.startswith(OPTIONAL) for name in found):
        rtd = rtd.model_copy(update={"weight": 0.0})
    objective = run.training.objective.model_copy(update={"rtd": rtd})
    return run.model_copy(update={"model": model, "training": run.training.model_copy(update={"objective": objective})})
