"""MuCodec's quantiser: MuQ's hidden states <-> one code of 16384 a frame, compared by angle in 32 dimensions.

Conventions: names of parameters are the published ones below ``rvq_muencoder_emb.quantizers.0.``; B batch, T frames.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

BLOCK = 4096  # frames compared with the whole codebook at once: 268 MB of distances; ours


class Quantiser(nn.Module):
    def __init__(self, width: int = 1024, codes: int = 16_384, inner: int = 32) -> None:
        super().__init__()
        self.in_proj = weight_norm(nn.Conv1d(width, inner, 1))
        self.out_proj = weight_norm(nn.Conv1d(inner, width, 1))
        self.codebook = nn.Embedding(codes, inner)

    def encode(self, states: Tensor) -> Tensor:
        """``[B, T, width]`` -> codes ``[B, T]``, the first of equally near ones."""
        points = F.normalize(self.points(states).flatten(0, 1))
        centres = F.normalize(self.codebook.weight)
        nearest = [_nearest(block, centres) for block in torch.split(points, BLOCK)]
        return torch.cat(nearest).view(states.shape[:2])

    def points(self, states: Tensor) -> Tensor:
        """``[B, T, width]`` -> ``[B, T, inner]``, of which `encode` takes the nearest centres by angle."""
        return cast(Tensor, self.in_proj(states.transpose(1, 2))).transpose(1, 2)

    def restored(self, points: Tensor) -> Tensor:
        """Points or centres ``[B, T, inner]`` -> ``[B, T, width]``."""
        return cast(Tensor, self.out_proj(points.transpose(1, 2))).transpose(1, 2)


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """By squared distance, its three terms in the released code's order: rounding decides ties the same way."""
    distance = points.pow(2).sum(1, keepdim=True) - 2 * points @ centres.t() + centres.pow(2).sum(1, keepdim=True).t()
    return (-distance).max(1)[1]
