"""The structure networks: stacks of dilated convolutions over time, small enough for one core.

Conventions: B batch, C channels, T steps (frames of 20 ms for beats, beats for form); float32; outputs are logits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """A gated dilated convolution with a residual path; time runs both ways."""

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv1d(width, 2 * width, kernel, dilation=dilation, padding=dilation * (kernel // 2))
        self.mix = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.conv(self.norm(x)).chunk(2, dim=1)
        mixed: Tensor = x + self.mix(self.dropout(torch.tanh(value) * torch.sigmoid(gate)))
        return mixed


class BeatNetwork(nn.Module):
    """Mel frames ``[B, 64, T]`` -> logits ``[B, 2, T]``: a beat is here, a bar begins here."""

    def __init__(self, bands: int = 64, width: int = 24, depth: int = 9, dropout: float = 0.1) -> None:
        super().__init__()
        self.enter = nn.Conv1d(2 * bands, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width, 5, 2**i, dropout) for i in range(depth))
        self.leave = nn.Conv1d(width, 2, 1)

    def forward(self, mel: Tensor) -> Tensor:
        rise = F.relu(mel[..., 1:] - mel[..., :-1])
        x = F.elu(self.enter(torch.cat([mel - 2.0, F.pad(rise, (1, 0))], dim=1)))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.leave(F.elu(x))
        return logits


class FormNetwork(nn.Module):
    """Beats ``[B, C, T]``, likeness ``[B, T, T]`` -> logits: a section begins ``[B, T]``, its label ``[B, 8, T]``.

    Between the two halves every beat hears what the first half made of the passages that are like its own.
    """

    def __init__(self, columns: int, labels: int = 8, width: int = 48, dropout: float = 0.15) -> None:
        super().__init__()
        self.enter = nn.Conv1d(columns, width, 3, padding=1)
        self.near = nn.ModuleList(Block(width, 3, 2**i, dropout) for i in range(5))
        self.sharpness = nn.Parameter(torch.tensor(8.0))
        self.join = nn.Conv1d(2 * width, width, 1)
        self.far = nn.ModuleList(Block(width, 3, 2**i, dropout) for i in range(7))
        self.leave = nn.Conv1d(width, 1 + labels, 1)

    def forward(self, beats: Tensor, likeness: Tensor) -> tuple[Tensor, Tensor]:
        x = F.elu(self.enter(beats))
        for block in self.near:
            x = block(x)
        repeats = torch.softmax(self.sharpness * likeness, dim=-1)
        x = x + F.elu(self.join(torch.cat([x, x @ repeats.transpose(1, 2)], dim=1)))
        for block in self.far:
            x = block(x)
        logits = self.leave(F.elu(x))
        return logits[:, 0], logits[:, 1:]
