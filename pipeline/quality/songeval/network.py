"""SongEval's head: MuQ's hidden states of a song -> five scores.

Conventions: names of parameters are the published ones; B batch, T frames at 25 Hz, D = 1024. The frames are mapped one
by one, then mixed by four plain attention layers without residuals; their mean and the largest mapped values count.
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

    def forward(self, states: Tensor) -> Tensor:
        """``[B, T, D]`` -> ``[B, 5]``, above 1 and below 5."""
        mapped = self.ffd(states)
        mixed = mapped
        for attention in self.attn:
            mixed, _ = attention(mixed, mixed, mixed, need_weights=False)
        summary = torch.cat([mixed.mean(dim=1), mapped.amax(dim=1)], dim=1)
        return 2.0 * F.tanh(cast(Tensor, self.fc(summary))) + 3.0
