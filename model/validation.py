"""Held-out negative log-likelihood while training: the exact estimator on crops of the `val` songs.

Conventions: nats a code, conditions present, variant 0; the same crops and masks at every call, so that values of one
stage compare. A whole-song figure with intervals is `model.evaluation`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model import diffusion
from model.config import StageConfig, TrainingConfig
from model.data import Batch, Drawing, RowSource, collate, song_index
from model.network import MaskPredictor
from model.schedule import generator
from pipeline.codec.codec import FRAME_RATE
from pipeline.records.schema import Sample, SampleInfo


@dataclass(frozen=True, slots=True)
class HeldRow:
    """One crop of a validation song, a batch of its own."""

    batch: Batch
    sung_T: Tensor  # bool: somebody sings in the frame
    counts: bool  # False: run only because every process runs as many (shards wait for one another)


def validation_rows(
    samples: Sequence[Sample], training: TrainingConfig, stage: StageConfig, rank: int, processes: int
) -> list[HeldRow]:
    """This process's share of the validation songs; all processes get as many rows."""
    drawing = Drawing(training.seed, 0, stage.crop_tokens, training.crop_mode, condition_dropout=0.0)
    source, ones = RowSource(samples, drawing), torch.ones(1, dtype=torch.float64)
    count = min(training.validate_samples, len(samples))
    rows = []
    for n in range(rank, -(-count // processes) * processes, processes):
        number = n if n < count else 0
        row = source.row(number)
        info = samples[song_index(drawing.seed, drawing.stage, number, len(samples))].info
        batch = collate([row], ones, (f"{training.seed} validation {number}",), training.objective)
        rows.append(HeldRow(batch, sung_frames(info, row.start, stage.crop_tokens), n < count))
    return rows


def sung_frames(info: SampleInfo, start: int, frames: int) -> Tensor:
    """Whether somebody sings in the middle of each frame, bool `[T]`, from code `start` of the song on."""
    middles = (start + np.arange(frames) + 0.5) / FRAME_RATE
    spans = np.array(info.vocal_active, dtype=np.float64).reshape(-1, 1, 2)
    return torch.from_numpy(((spans[..., 0] <= middles) & (middles < spans[..., 1])).any(axis=0))


@torch.no_grad()
def frame_nats(network: MaskPredictor, batch: Batch, draws: int, device: torch.device) -> Tensor:
    """Each frame's share `[T]`, float64, of one row's nats given its vocal and prefix.

    Their sum is an upper bound of the row's negative log-likelihood, exact for exact conditionals.
    """
    plan = diffusion.nll_plan(network.config, batch.valid_BT, draws, generator(batch.row_seeds[0], "nll"))
    batch = batch.to(device)
    total_T = torch.zeros(batch.valid_BT.shape[1], dtype=torch.float64, device=device)
    for mask_BT, weight_B in zip(plan.masks_NBT.to(device), plan.weights_NB.to(device), strict=True):
        shown_BT = diffusion.visible(network.config, batch.accompaniment_BT, mask_BT, batch.valid_BT)
        valid_BT = batch.valid_BT if batch.padded else None
        logits_MV = network(
            batch.vocal_BT, shown_BT, batch.prefix_BPW, valid_BT, batch.dropped_BP, mask_BT, judge=False
        ).logits_MV
        loss_M = diffusion.token_losses(logits_MV, batch.accompaniment_BT, mask_BT)
        total_T += (diffusion.scatter_rows(loss_M, mask_BT) * weight_B[:, None])[0]
    return total_T


def validate(network: MaskPredictor, rows: Sequence[HeldRow], draws: int, device: torch.device) -> Tensor:
    """Of this process's rows: nats and codes of the frames that are sung in, nats and codes of the others. Float64."""
    training = network.training
    network.eval()
    sums = torch.zeros(4, dtype=torch.float64)
    for row in rows:
        nats_T = frame_nats(network, row.batch, draws, device).cpu()
        valid_T = row.batch.valid_BT[0]
        for place, chosen_T in ((0, valid_T & row.sung_T), (2, valid_T & ~row.sung_T)):
            if row.counts:
                sums[place] += nats_T[chosen_T].sum()
                sums[place + 1] += chosen_T.sum()
    network.train(training)
    return sums


def told(sums: Tensor) -> dict[str, float]:
    """What the journal says of the sums of all processes; a kind of frame that there is none of is left out."""
    sung, sung_codes, silent, silent_codes = sums.tolist()
    parts = {
        "val_nll": (sung + silent, sung_codes + silent_codes),
        "val_nll_sung": (sung, sung_codes),
        "val_nll_silent": (silent, silent_codes),
    }
    return {name: nats / codes for name, (nats, codes) in parts.items() if codes}
