"""Network and diffusion joined: one batch in, the sums of its losses out.

Conventions: sums are over rows, frames or tokens of the micro-batch; `denominators` are known before the network runs,
so that any split of a step into micro-batches and processes gives the gradient of the one large batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model import diffusion
from model.config import ModelConfig, ObjectiveConfig
from model.data import Batch
from model.head import Scored, Target
from model.network import MaskPredictor, Prediction
from model.schedule import generator
from model.tally import tally


class Denominators(NamedTuple):
    """What the summed losses are divided by; float64 scalars."""

    masked: Tensor  # rows (inv_t, elbo) or masked codes (mean_masked)
    replaced: Tensor  # judged codes


class Sums(NamedTuple):
    """Of one micro-batch; scalars. The first two carry gradient."""

    masked_loss: Tensor  # nats
    replaced_loss: Tensor  # nats; 0 without RTD
    hits: Tensor  # masked codes whose likeliest prediction is the true one
    masked: Tensor  # masked codes
    counts: Tensor | None = None  # `model.tally`; None where nothing is predicted by its number


def denominators(config: ObjectiveConfig, batch: Batch) -> Denominators:
    weights = diffusion.loss_weights(config, batch.mask_BT, batch.valid_BT, batch.ratio_B)
    return Denominators(weights.denominator_B.sum().double(), _judged(config, batch).sum().double())


class Objective(nn.Module):
    """The trained module. All passes of a step happen inside one `forward`: DistributedDataParallel needs it so."""

    def __init__(self, model: ModelConfig, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config, self.model = config, model
        self.network = MaskPredictor(model, rtd=config.rtd.weight > 0)

    def forward(self, batch: Batch) -> Sums:
        rtd = self.config.rtd
        same_pass = rtd.weight > 0 and rtd.mode == "same_pass"
        shown_BT = diffusion.visible(self.model, batch.accompaniment_BT, batch.mask_BT, batch.valid_BT)
        if same_pass:
            swaps = [generator(seed, "swap") for seed in batch.row_seeds]
            shown_BT = diffusion.replace_visible(rtd, shown_BT, batch.mask_BT, batch.valid_BT, swaps)
        refills = rtd.weight > 0 and not same_pass
        target = None if refills and rtd.replace != "argmax" else self._target(batch)  # a draw needs logits
        logits_MV, rtd_BT, scored = self._run(batch, shown_BT, batch.mask_BT, judge=same_pass, target=target)
        loss, predicted_M = self._scored(batch, logits_MV) if scored is None else scored
        if refills:
            refill_M = predicted_M if logits_MV is None else self._refill(batch, logits_MV.detach())
            shown_BT = diffusion.replace_masked(batch.accompaniment_BT, batch.mask_BT, refill_M)
            rtd_BT = self._run(batch, shown_BT, None, judge=True, detach=rtd.mode == "head_only").rtd_BT
        right_M = predicted_M == batch.accompaniment_BT[batch.mask_BT]
        replaced = loss.new_zeros(()) if rtd_BT is None else self._replaced_loss(batch, shown_BT, rtd_BT)
        counts = self._counts(batch, right_M, shown_BT, rtd_BT)
        return Sums(loss, replaced, right_M.sum(), batch.mask_BT.sum(), counts)

    def _run(
        self,
        batch: Batch,
        shown_BT: Tensor,
        masked_BT: Tensor | None,
        judge: bool,
        detach: bool = False,
        target: Target | None = None,
    ) -> Prediction:
        valid_BT = batch.valid_BT if batch.padded else None
        prediction: Prediction = self.network(
            batch.vocal_BT, shown_BT, batch.prefix_BPW, valid_BT, batch.dropped_BP, masked_BT, judge, detach, target
        )
        return prediction

    def _target(self, batch: Batch) -> Target:
        weights = diffusion.loss_weights(self.config, batch.mask_BT, batch.valid_BT, batch.ratio_B)
        scale_M = weights.scale_B[:, None].expand(batch.mask_BT.shape)[batch.mask_BT]
        return Target(batch.accompaniment_BT[batch.mask_BT], scale_M, self.config.label_smoothing)

    def _scored(self, batch: Batch, logits_MV: Tensor | None) -> Scored:
        """What the head says of a target, from logits."""
        assert logits_MV is not None
        weights = diffusion.loss_weights(self.config, batch.mask_BT, batch.valid_BT, batch.ratio_B)
        loss_M = diffusion.token_losses(logits_MV, batch.accompaniment_BT, batch.mask_BT, self.config.label_smoothing)
        loss = diffusion.numerators(loss_M, batch.mask_BT, weights.scale_B).sum()
        return Scored(loss, logits_MV.detach().argmax(dim=-1))

    def _replaced_loss(self, batch: Batch, shown_BT: Tensor, rtd_BT: Tensor) -> Tensor:
        labels_BT = diffusion.rtd_labels(self.config.rtd, shown_BT, batch.accompaniment_BT)
        numerator_B, _ = diffusion.rtd_losses(rtd_BT, labels_BT, _judged(self.config, batch))
        return numerator_B.sum()

    def _counts(self, batch: Batch, right_M: Tensor, shown_BT: Tensor, rtd_BT: Tensor | None) -> Tensor:
        if rtd_BT is None:
            return tally(right_M, batch.mask_BT, batch.ratio_B)
        high_for_originals_BT = -rtd_BT.detach() if self.config.rtd.mode == "head_only" else rtd_BT.detach()
        original_BT = shown_BT == batch.accompaniment_BT
        judged_BT = _judged(self.config, batch)
        return tally(right_M, batch.mask_BT, batch.ratio_B, high_for_originals_BT, original_BT, judged_BT)

    def _refill(self, batch: Batch, logits_MV: Tensor) -> Tensor:
        """Codes for the masked frames, each row from its own seed: they don't depend on its batch mates."""
        rows = torch.split(logits_MV, batch.mask_BT.sum(dim=1).tolist())
        drawn = [
            diffusion.replacements(self.config.rtd, row_MV, generator(seed, "refill"))
            for row_MV, seed in zip(rows, batch.row_seeds, strict=True)
        ]
        return torch.cat(drawn)


def _judged(config: ObjectiveConfig, batch: Batch) -> Tensor:
    """Codes that the discriminator judges, bool ``[B, T]``: the valid ones; under `same_pass` the visible of them."""
    return batch.valid_BT & ~batch.mask_BT if config.rtd.mode == "same_pass" else batch.valid_BT
