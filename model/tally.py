"""What a training step counts beside its losses: hits by mask ratio, and how the discriminator judges.

Conventions: a tally is one float64 vector that adds up over micro-batches, processes and steps: `RATIOS` hits, `RATIOS`
masked codes, then two histograms of discriminator logits, of codes that are replaced and of the originals. Pure.

Shape suffixes: `B` rows, `T` frames, `M` masked frames in row-major order.
"""

import torch
from torch import Tensor

RATIOS = 5  # bins of the mask ratio: 0-20 %, .. 80-100 %
LOGITS, REACH = 128, 8.0  # bins of a histogram, from -REACH to REACH nats; beyond is counted at the ends; ours
SIZE = 2 * RATIOS + 2 * LOGITS


def tally(
    right_M: Tensor,
    mask_BT: Tensor,
    ratio_B: Tensor,
    logits_BT: Tensor | None = None,
    original_BT: Tensor | None = None,
    judged_BT: Tensor | None = None,
) -> Tensor:
    """One micro-batch: which masked codes were predicted right; the discriminator's logits, high for originals."""
    device = mask_BT.device
    bin_B = (ratio_B.to(device) * RATIOS).long().clamp(max=RATIOS - 1)
    bin_M = bin_B[:, None].expand(mask_BT.shape)[mask_BT]
    ones = torch.ones(len(bin_M), dtype=torch.float64, device=device)
    hits, masked = (
        torch.zeros(RATIOS, dtype=torch.float64, device=device).index_add_(0, bin_M, ones * weight)
        for weight in (right_M, 1)
    )
    judged = torch.zeros(2 * LOGITS, dtype=torch.float64, device=device)
    if logits_BT is not None and original_BT is not None and judged_BT is not None:
        place_N = ((logits_BT[judged_BT].double() / REACH + 1) / 2 * LOGITS).long().clamp(0, LOGITS - 1)
        place_N = place_N + LOGITS * original_BT[judged_BT].long()
        judged.index_add_(0, place_N, torch.ones(len(place_N), dtype=torch.float64, device=device))
    return torch.cat([hits, masked, judged])


def told(total: Tensor) -> dict[str, float]:
    """What a journal says of a tally; what was never counted is left out."""
    hits, masked, replaced, original = torch.split(total.cpu(), [RATIOS, RATIOS, LOGITS, LOGITS])
    width = 100 // RATIOS
    found = {
        f"masked_accuracy_{n * width}_{(n + 1) * width}": float(hits[n] / masked[n])
        for n in range(RATIOS)
        if masked[n] > 0
    }
    if replaced.sum() > 0 and original.sum() > 0:
        found["rtd_auc"] = area(replaced, original)
        recalls = replaced[: LOGITS // 2].sum() / replaced.sum(), original[LOGITS // 2 :].sum() / original.sum()
        found["rtd_balanced_accuracy"] = float(sum(recalls) / 2)
    if replaced.sum() + original.sum() > 0:
        found["rtd_replaced_share"] = float(replaced.sum() / (replaced.sum() + original.sum()))
    return found


def area(low: Tensor, high: Tensor) -> float:
    """Area under the ROC curve of two histograms over the same bins: the chance that one of `high` lies above one of
    `low`, equal bins counted half. Both must hold something.
    """
    below = low.cumsum(0) - low / 2
    return float((high * below).sum() / (high.sum() * low.sum()))
