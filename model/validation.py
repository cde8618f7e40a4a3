"""Held-out negative log-likelihood while training: the exact estimator on crops of the `val` songs.

Conventions: nats a code, conditions present, variant 0; the same crops and masks at every call, so that values of one
stage compare. A whole-song figure with intervals is `model.evaluation`'s.
"""

from collections.abc import Sequence

import torch

from model import diffusion
from model.config import StageConfig, TrainingConfig
from model.data import Batch, Drawing, RowSource, collate
from model.network import MaskPredictor
from model.schedule import generator
from pipeline.records.schema import Sample


def validation_rows(
    samples: Sequence[Sample], training: TrainingConfig, stage: StageConfig, rank: int, processes: int
) -> list[Batch]:
    """This process's share of the validation songs, each a batch of its own."""
    drawing = Drawing(training.seed, 0, stage.crop_tokens, training.crop_mode, condition_dropout=0.0)
    source = RowSource(samples, drawing)
    count = min(training.validate_samples, len(samples))
    ones = torch.ones(1, dtype=torch.float64)
    return [
        collate([source.row(n)], ones, (f"{training.seed} validation {n}",), training.objective)
        for n in range(rank, count, processes)
    ]


@torch.no_grad()
def negative_log_likelihood(network: MaskPredictor, batch: Batch, draws: int, device: torch.device) -> float:
    """Nats of one row's codes given its vocal and prefix: an upper bound, exact for exact conditionals."""
    plan = diffusion.nll_masks(batch.valid_BT, draws, generator(batch.row_seeds[0], "nll"))
    batch = batch.to(device)
    total = 0.0
    for mask_BT, weight_B in zip(plan.masks_NBT.to(device), plan.weights_NB.to(device), strict=True):
        shown_BT = diffusion.corrupt(batch.accompaniment_BT, mask_BT, batch.valid_BT)
        valid_BT = batch.valid_BT if batch.padded else None
        logits_MV, _ = network(
            batch.vocal_BT, shown_BT, batch.prefix_BPW, valid_BT, batch.dropped_BP, mask_BT, judge=False
        )
        loss_M = diffusion.token_losses(logits_MV, batch.accompaniment_BT, mask_BT)
        total += float(diffusion.numerators(loss_M, mask_BT, weight_B).sum())
    return total


def validate(network: MaskPredictor, rows: Sequence[Batch], draws: int, device: torch.device) -> tuple[float, int]:
    """Summed nats and codes of this process's rows."""
    training = network.training
    network.eval()
    nats = sum(negative_log_likelihood(network, row, draws, device) for row in rows)
    network.train(training)
    return nats, sum(int(row.valid_BT.sum()) for row in rows)
