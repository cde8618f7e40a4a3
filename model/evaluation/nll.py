"""Held-out likelihood: how well the model predicts songs it never saw, in nats per token.

Conventions: songs are cut into crops from the start, each scored on its own; variant 0, window phase 0. Text is given,
the reference slot is dropped (a reference of the same song would tell the answer). The estimator,
`diffusion.nll_masks`, is exact for exact conditionals, an upper bound otherwise, whatever the training
loss was.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import diffusion
from model.evaluation.floors import song_seed
from model.evaluation.settings import NllConfig
from model.network import MaskPredictor
from pipeline.codec.codec import CODEBOOK_SIZE
from pipeline.records.schema import Sample

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Nats per token of each song, the model's and the two baselines'."""

    keys: tuple[str, ...]
    model: tuple[float, ...]
    unigram: tuple[float, ...]  # add-one code frequencies of the training tokens
    uniform: float  # log of the codebook size, the same for every song


def held_out(
    network: MaskPredictor,
    samples: Sequence[Sample],
    training_counts: Counts,
    config: NllConfig,
    seed: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> HeldOut:
    """Score every sample; `ValueError` where there is none. The network is put in evaluation mode."""
    if not samples:
        raise ValueError("no held-out songs to score: the data set's test split is empty")
    network.eval()
    losses = []
    for index, sample in enumerate(samples):
        if progress is not None:
            progress(index, len(samples), sample.info.key)
        losses.append(song_nll(network, sample, config, song_seed(seed, sample.info.key)))
    unigram = tuple(unigram_nll(training_counts, sample) for sample in samples)
    return HeldOut(tuple(s.info.key for s in samples), tuple(losses), unigram, math.log(CODEBOOK_SIZE))


@torch.inference_mode()
def song_nll(network: MaskPredictor, sample: Sample, config: NllConfig, seed: int) -> float:
    """Nats per token of one song; same seed, same answer."""
    generator = torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    prefix_BPW, dropped_BP = (tensor.to(device) for tensor in _prefix(sample))
    total = 0.0
    for vocal_BT, codes_BT in _crops(sample, config.crop_tokens):
        total += crop_nats(
            network, vocal_BT.to(device), codes_BT.to(device), prefix_BPW, dropped_BP, config.draws, generator
        )
    return total / sample.info.tokens


def crop_nats(
    network: MaskPredictor,
    vocal_BT: Tensor,
    codes_BT: Tensor,
    prefix_BPW: Tensor,
    dropped_BP: Tensor,
    draws: int,
    generator: torch.Generator,
) -> float:
    """Nats of one crop, codes ``[1, T]``, without a gradient: each draw's mask in a forward pass of its own."""
    valid_BT = torch.ones_like(codes_BT, dtype=torch.bool)
    plan = diffusion.nll_plan(network.config, valid_BT, draws, generator)
    total = 0.0
    for mask_BT, weight_B in zip(plan.masks_NBT.to(codes_BT.device), plan.weights_NB.to(codes_BT.device), strict=True):
        shown_BT = diffusion.visible(network.config, codes_BT, mask_BT, valid_BT)
        logits_MV = network(vocal_BT, shown_BT, prefix_BPW, valid_BT, dropped_BP, mask_BT).logits_MV
        loss_M = diffusion.token_losses(logits_MV, codes_BT, mask_BT)
        total += float(diffusion.numerators(loss_M, mask_BT, weight_B).sum())
    return total


def code_counts(samples: Iterable[Sample]) -> Counts:
    """How often each code occurs in the accompaniments ``[16384]``: the training split's feed the unigram."""
    counts = np.zeros(CODEBOOK_SIZE, dtype=np.int64)
    for sample in samples:
        counts += np.bincount(sample.accompaniment[0, 0], minlength=CODEBOOK_SIZE)
    return counts


def unigram_nll(counts: Counts, sample: Sample) -> float:
    """Nats per token of a song under add-one code frequencies."""
    if counts.shape != (CODEBOOK_SIZE,):
        raise ValueError(f"training counts must be [{CODEBOOK_SIZE}], got {list(counts.shape)}")
    log_p = np.log(counts + 1) - np.log(counts.sum() + CODEBOOK_SIZE)
    return float(-log_p[sample.accompaniment[0, 0]].mean())


def _crops(sample: Sample, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Vocal and accompaniment codes int64 ``[1, <= length]``, end to end."""
    for start in range(0, sample.info.tokens, length):
        both = [
            codes[None, start : start + length].astype(np.int64)
            for codes in (sample.vocal[0], sample.accompaniment[0, 0])
        ]
        yield torch.from_numpy(both[0]), torch.from_numpy(both[1])


def _prefix(sample: Sample) -> tuple[Tensor, Tensor]:
    """Prefix ``[1, 2, W]`` with the first caption, and which slots are dropped: always the reference."""
    prefix = np.zeros((1, 2, sample.text.shape[1]), dtype=np.float32)
    has_text = len(sample.text) > 0
    if has_text:
        prefix[0, 0] = sample.text[0]
    return torch.from_numpy(prefix), torch.tensor([[not has_text, True]])
