"""Masked diffusion over accompaniment codes: corruption, losses, replaced-token detection, exact likelihood.

Pure functions over tensors. A loss is a pair: a numerator and a denominator for each row, the latter known before the
network runs. Summed numerators over summed denominators are the large batch's loss, however it is split into
micro-batches and ranks.

Shape suffixes: `B` rows, `T` frames, `M` masked frames of the batch in row-major order, `V` codes, `N` draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import CODES, MASK, PAD, ModelConfig, ObjectiveConfig, RtdConfig
from model.masking import draw_masks


def corrupt(codes_BT: Tensor, mask_BT: Tensor, valid_BT: Tensor) -> Tensor:
    """What the network sees: the codes, `MASK` where masked, `PAD` where not valid. int64 `[B, T]`."""
    return codes_BT.masked_fill(mask_BT, MASK).masked_fill(~valid_BT, PAD)


def visible(model: ModelConfig, codes_BT: Tensor, mask_BT: Tensor, valid_BT: Tensor) -> Tensor:
    """What the network takes to predict the masked codes: nothing of them, unless it is causal by itself."""
    if model.kind == "autoregressive":
        return codes_BT.masked_fill(~valid_BT, PAD)
    return corrupt(codes_BT, mask_BT, valid_BT)


def token_losses(logits_MV: Tensor, codes_BT: Tensor, mask_BT: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats `[M]` of each masked frame against its true code."""
    return F.cross_entropy(logits_MV, codes_BT[mask_BT], reduction="none", label_smoothing=label_smoothing)


def scatter_rows(values_M: Tensor, mask_BT: Tensor) -> Tensor:
    """`values_M` back at their frames, zero elsewhere. `[B, T]`."""
    return torch.zeros(mask_BT.shape, dtype=values_M.dtype, device=values_M.device).masked_scatter(mask_BT, values_M)


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How masked frames add up: numerator = scale_B * (row's summed token losses); denominator_B known beforehand."""

    scale_B: Tensor  # float32
    denominator_B: Tensor  # float32; rows (inv_t, elbo) or masked frames (mean_masked)


def loss_weights(config: ObjectiveConfig, mask_BT: Tensor, valid_BT: Tensor, ratio_B: Tensor) -> LossWeights:
    """Weights of the configured loss.

    `inv_t` (paper Eq. 3) and `elbo`: sum over masked / (t * T_valid), a mean over rows; `elbo` is `inv_t` with uniform
    t. `mean_masked`: mean over all masked frames. A row that masks nothing adds 0 to the numerator; a row without a
    valid frame counts for nothing at all.
    """
    frames_B = valid_BT.sum(dim=1).float()
    if config.loss == "mean_masked":
        masked_B = (mask_BT & valid_BT).sum(dim=1).float()
        return LossWeights(torch.ones_like(masked_B), masked_B)
    exists_B = (frames_B > 0).float()
    return LossWeights(exists_B / (ratio_B.float().to(frames_B.device) * frames_B.clamp(min=1)), exists_B)


def numerators(loss_M: Tensor, mask_BT: Tensor, scale_B: Tensor) -> Tensor:
    """Weighted sum of the token losses of each row. `[B]`."""
    return scatter_rows(loss_M, mask_BT).sum(dim=1) * scale_B.to(loss_M.dtype)


def reduce(numerator_B: Tensor, denominator: Tensor | float) -> Tensor:
    """Scalar loss: summed numerators over `denominator`, that of the micro-batch or, exactly accumulated, of the step.

    A denominator of zero (nothing masked anywhere) gives 0, with a gradient of 0.
    """
    total = torch.as_tensor(denominator, dtype=numerator_B.dtype, device=numerator_B.device).sum()
    return numerator_B.sum() / torch.where(total > 0, total, torch.ones_like(total))


@torch.no_grad()
def replacements(config: RtdConfig, logits_MV: Tensor, generator: torch.Generator) -> Tensor:
    """Codes int64 `[M]` put in place of masked ones: the likeliest, a sample at `temperature`, or uniform.

    `generator` lives on the CPU; only `sample` and `uniform` draw from it.
    """
    if config.replace == "argmax":
        return logits_MV.argmax(dim=-1)
    if config.replace == "uniform":
        drawn_M = torch.randint(CODES, logits_MV.shape[:1], generator=generator)
        return drawn_M.to(logits_MV.device)
    uniform_M = torch.rand(logits_MV.shape[0], 1, generator=generator, dtype=torch.float64).to(logits_MV.device)
    cumulated_MV = (logits_MV.double() / config.temperature).softmax(dim=-1).cumsum(dim=-1)
    drawn_M = torch.searchsorted(cumulated_MV, uniform_M * cumulated_MV[:, -1:], right=True).squeeze(1)
    return drawn_M.clamp(max=logits_MV.shape[1] - 1)


def replace_masked(codes_BT: Tensor, mask_BT: Tensor, replacement_M: Tensor) -> Tensor:
    """The codes with `replacement_M` at the masked frames. int64 `[B, T]`, nothing masked left."""
    return codes_BT.masked_scatter(mask_BT, replacement_M)


def replace_visible(
    config: RtdConfig, input_BT: Tensor, mask_BT: Tensor, valid_BT: Tensor, generators: Sequence[torch.Generator]
) -> Tensor:
    """`rtd.mode: same_pass`: a `share` of the visible frames replaced by uniform codes, masked ones left masked."""
    visible_BT = valid_BT & ~mask_BT
    swap_BT = draw_masks(visible_BT, torch.full((len(input_BT),), config.share), generators).to(input_BT.device)
    drawn_BT = torch.stack(
        [torch.randint(CODES, input_BT.shape[1:], generator=generator) for generator in generators]
    ).to(input_BT.device)
    return torch.where(swap_BT, drawn_BT, input_BT)


def rtd_labels(config: RtdConfig, shown_BT: Tensor, codes_BT: Tensor) -> Tensor:
    """Float32 `[B, T]` by equality with the original: 1 = original; under `head_only` (as released) 1 = replaced."""
    same_BT = shown_BT == codes_BT
    return (~same_BT if config.mode == "head_only" else same_BT).float()


def rtd_losses(logits_BT: Tensor, labels_BT: Tensor, judged_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Numerator and denominator `[B]` of the discriminator's mean binary cross-entropy over `judged_BT`.

    Judged are the valid frames; under `same_pass` the valid and visible ones, since a mask is plainly no original.
    """
    loss_BT = F.binary_cross_entropy_with_logits(logits_BT, labels_BT.to(logits_BT.dtype), reduction="none")
    return (loss_BT * judged_BT).sum(dim=1), judged_BT.sum(dim=1).float()


@dataclass(frozen=True, slots=True)
class NllPlan:
    """Masks to run and their weights: summed over N, `numerators(loss, mask, weight)` estimates -log p(row) in nats."""

    masks_NBT: Tensor  # bool
    weights_NB: Tensor  # float32; T_valid / (k N) of a mask with k frames; 0 for a row without valid frames


def nll_plan(model: ModelConfig, valid_BT: Tensor, draws: int, generator: torch.Generator) -> NllPlan:
    """`nll_masks`; of an autoregressive network one mask of every frame, which is exact.

    `ValueError` for `kind: flow`, whose latents have no likelihood here.
    """
    if model.kind == "flow":
        raise ValueError("model.kind flow learns velocities: it has no likelihood of codes")
    if model.kind == "autoregressive":
        return NllPlan(valid_BT[None].cpu(), torch.ones(1, len(valid_BT)))
    return nll_masks(valid_BT, draws, generator)


def nll_masks(valid_BT: Tensor, draws: int, generator: torch.Generator) -> NllPlan:
    """Unbiased plan for the negative log-likelihood in random order: fixed counts, stratified over `draws`.

    -log p(x) = T E_k [mean of -log p(x_i | visible) over a random set of k masked frames], k uniform on 1..T: exact for
    exact conditionals, an upper bound otherwise. Draw n takes its count from the n-th of `draws` equal slices of 1..T.
    To compare models, give each the same plan; a row alone in its call does not depend on batch mates.
    """
    if draws < 1:
        raise ValueError(f"draws must be >= 1, got {draws}")
    masks_NBT = torch.zeros((draws, *valid_BT.shape), dtype=torch.bool)
    weights_NB = torch.zeros(draws, len(valid_BT))
    for row, valid_T in enumerate(valid_BT.cpu()):
        frames = valid_T.nonzero().squeeze(1)
        for draw in range(draws if len(frames) else 0):
            place = (draw + float(torch.rand((), generator=generator, dtype=torch.float64))) / draws
            count = min(int(place * len(frames)) + 1, len(frames))
            chosen = frames[torch.randperm(len(frames), generator=generator)[:count]]
            masks_NBT[draw, row, chosen] = True
            weights_NB[draw, row] = len(frames) / (count * draws)
    return NllPlan(masks_NBT, weights_NB)
