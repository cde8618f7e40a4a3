"""What differs between the paper's model and its ablations, in one place: networks, objectives, beginnings.

Conventions: `kind: mask` is the paper's; the others learn from every frame (`mask_schedule: [1.0]`), so that masks,
denominators and accumulation are the same for all.
"""

from pathlib import Path

import torch

from model.codebook import embed_codebook, head_codebook
from model.config import ModelConfig, ObjectiveConfig, TrainRun
from model.flow import FlowObjective, FlowPredictor
from model.interchange import load_backbone, read_llama
from model.network import MaskPredictor
from model.objective import Objective
from pipeline.codec import codec as codecs
from pipeline.codec.codec import continuous


def build_network(model: ModelConfig, rtd: bool) -> MaskPredictor | FlowPredictor:
    """The network of a config, its weights drawn from torch's global stream."""
    return FlowPredictor(model) if model.kind == "flow" else MaskPredictor(model, rtd)


def build_objective(model: ModelConfig, objective: ObjectiveConfig) -> Objective | FlowObjective:
    """The trained module of a config."""
    return FlowObjective(model, objective) if model.kind == "flow" else Objective(model, objective)


def begin(network: MaskPredictor | FlowPredictor, run: TrainRun) -> None:
    """What a new run takes from a Llama and from its codec, where it asks for it; torch's global stream stays.

    `BadInput` for weights that don't fit, `BackendUnavailable` for a codec without latents.
    """
    if run.model.init == "llama":
        load_backbone(network, read_llama(Path(run.model.init_weights)))
    if "codebook" not in (run.model.embeddings, run.model.head) and run.model.kind != "flow":
        return
    with torch.random.fork_rng(devices=[]):  # building a codec's network draws weights that its file replaces
        centroids = torch.from_numpy(continuous(codecs.build(run.codec)).centroids())
    if isinstance(network, FlowPredictor):
        network.fit_scale(centroids)
        return
    if run.model.embeddings == "codebook":
        embed_codebook(network, centroids, run.training.seed)
    if run.model.head == "codebook":
        head_codebook(network, centroids, run.training.seed)
