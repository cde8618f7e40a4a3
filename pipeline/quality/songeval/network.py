"""SongEval's head: MuQ's hidden states of a song -> five scores.

Conventions: names of parameters are the published ones; B batch, T frames at 25 Hz, D = 1024. The frames are mapped one
by one, then mixed by four plain attention layers without residuals; their mean and the largest mapped values count.
``real``, bool ``[B, T]``, says which frames are a row's own, where rows are padded; the others count for nothing.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NAMES = ("Coherence", "Musicality", "Memorability", "Clarity", "Naturalness")  # in the order of the outputs; eval.py
LAYER = 6  # hidden state of MuQ that is judged; eval.py
HEADS = 8  # of each attention layer; model.py


class SongEval(nn.Module):
    def __init__(self, width: int = 1024, inner: int = 4096, layers: int = 4) -> None:
        super().__init__()
        self.attn = nn.ModuleList(nn.MultiheadAttention(width, HEADS, batch_first=True) for _ in range(layers))
        self.ffd = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
        self.fc = nn.Linear(2 * width, len(NAMES))

    def forward(self, states: Tensor, real: Tensor | None = None) -> Tensor:
        """``[B, T, D]`` -> ``[B, 5]``, above 1 and below 5."""
        mapped = cast(Tensor, self.ffd(states))
        mixed = mapped
        for layer in self.attn:
            mixed = attended(cast(nn.MultiheadAttention, layer), mixed, real)
        summary = torch.cat([mean(mixed, real), greatest(mapped, real)], dim=1)
        return 2.0 * F.tanh(cast(Tensor, self.fc(summary))) + 3.0


def attended(layer: nn.MultiheadAttention, x: Tensor, real: Tensor | None) -> Tensor:
    """``[B, T, D]`` of ``[B, T, D]``. The layer's own forward pass would hold all of ``[B, 8, T, T]``: 7 GB for ten
    minutes (computed), on a CPU always, on a GPU where there is a mask."""
    projected = F.linear(x, cast(Tensor, layer.in_proj_weight), layer.in_proj_bias)
    query, key, value = projected.reshape(*x.shape[:2], 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value, None if real is None else real[:, None, None])
    return cast(Tensor, layer.out_proj(mixed.transpose(1, 2).flatten(2)))


def mean(x: Tensor, real: Tensor | None) -> Tensor:
    """``[B, T, D]`` -> ``[B, D]`` over the frames of each row."""
    if real is None:
        return x.mean(dim=1)
    return x.masked_fill(~real[..., None], 0.0).sum(dim=1) / real.sum(dim=1, keepdim=True)


def greatest(x: Tensor, real: Tensor | None) -> Tensor:
    """``[B, T, D]`` -> ``[B, D]`` over the frames of each row."""
    return (x if real is None else x.masked_fill(~real[..., None], -torch.inf)).amax(dim=1)
