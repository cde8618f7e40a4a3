"""The learned half of the embedded codec: codes -> log-mel, a small ConvNeXt on top of a linear fit.

Conventions: `B` batch, `T` codes at 25 Hz, `C` channels; inside, tensors are ``[B, C, 1, T]`` because a depthwise
conv2d is three times as fast as conv1d on CPU; sizes were measured on small runs.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.codec.mel import BANDS, FLOOR, FRAMES_PER_CODE

SLOW_WIDTH, SLOW_BLOCKS = 256, 5  # at 25 Hz; 4 there: the file has room for one more
FAST_WIDTH, FAST_BLOCKS = 160, 2  # at 100 Hz
KERNEL = 7
EXPANSION = 3
LAYER_SCALE = 0.3
LIVELINESS = 0.35  # how far change in time is raised; measured beside the texture (weights/README.md)
AROUND = (1, 2, 3, 2, 1)  # weights of five frames; ours
TEXTURE = 0.16  # nats of noise: more flux for the same L1 than more liveliness gives (weights/README.md)
NOISY_BANDS = (30, 60)  # no texture below the first, 1 kHz, all of it above the second, 3 kHz: voices stay pure; ours
FULL_TEXTURE = 2.0  # nats above the floor, where it reaches its strength; ours
SEED = 1  # of the texture; ours


class Block(nn.Module):
    """ConvNeXt block: depthwise convolution, normalisation over channels, two pointwise layers, scaled residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, (1, KERNEL), padding=(0, KERNEL // 2), groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, EXPANSION * width)
        self.contract = nn.Linear(EXPANSION * width, width)
        self.scale = nn.Parameter(torch.full((width,), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        rows = self.contract(F.gelu(self.expand(rows), approximate="tanh")) * self.scale
        changed: Tensor = x + rows.permute(0, 3, 1, 2)
        return changed


class Decoder(nn.Module):
    """Codes ``[B, T]`` -> log-mel ``[B, 4 T, 100]`` and, for each frame, a logit that a voice alone sounds."""

    centres: Tensor
    spread: Tensor

    def __init__(self, centres: Tensor, slow_blocks: int = SLOW_BLOCKS) -> None:
        super().__init__()
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("spread", centres.std().clamp_min(1e-6), persistent=False)
        components = centres.shape[1]
        self.linear = nn.Linear(components, FRAMES_PER_CODE * BANDS)
        self.enter = nn.Linear(components, SLOW_WIDTH)
        self.slow = nn.Sequential(*(Block(SLOW_WIDTH) for _ in range(slow_blocks)))
        self.widen = nn.Linear(SLOW_WIDTH, FRAMES_PER_CODE * FAST_WIDTH)
        self.fast = nn.Sequential(*(Block(FAST_WIDTH) for _ in range(FAST_BLOCKS)))
        self.norm = nn.LayerNorm(FAST_WIDTH)
        self.leave = nn.Linear(FAST_WIDTH, BANDS + 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        return self.from_points(self.centres[codes])

    def from_points(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The same for any points ``[B, T, D]`` in place of the codes' centres."""
        batch, steps, _ = points.shape
        points = points / self.spread
        slow = self.slow(_channels_first(self.enter(points)))
        widened = self.widen(_channels_last(slow)).reshape(batch, FRAMES_PER_CODE * steps, FAST_WIDTH)
        fast = _channels_last(self.fast(_channels_first(widened)))
        fitted: Tensor = self.linear(points).reshape(batch, FRAMES_PER_CODE * steps, BANDS)
        left: Tensor = self.leave(self.norm(fast))
        return fitted + left[..., :BANDS], left[..., BANDS]

    @torch.no_grad()
    def fit_linear(self, points: Tensor, log_mels: Tensor) -> None:
        """Least squares from points ``[N, D]`` (centres of the codes) to log-mels ``[N, 400]``."""
        inputs = F.pad(points / self.spread, (0, 1), value=1.0).double()
        gram = inputs.T @ inputs + 1e-4 * len(inputs) * torch.eye(inputs.shape[1], dtype=torch.float64)
        answer = torch.linalg.solve(gram, inputs.T @ log_mels.double()).float()
        self.linear.weight.copy_(answer[:-1].T)
        self.linear.bias.copy_(answer[-1])


def enlivened(log_mels: Tensor) -> Tensor:
    """Log-mels ``[M, 100]`` nearly as lively as sound is, since a decoder that means the middle of all that a code may
    be changes too little: what changes in time is raised, and a texture of seeded noise laid over what is heard above
    1 kHz. The same log-mels give the same answer."""
    weights = torch.tensor(AROUND, dtype=torch.float32)
    side = len(AROUND) // 2
    padded = F.pad(log_mels.T[:, None], (side, side), mode="replicate")
    around = F.conv1d(padded, (weights / weights.sum())[None, None])[:, 0].T
    noise = torch.randn(log_mels.shape, generator=torch.Generator().manual_seed(SEED))
    pure, noisy = NOISY_BANDS
    share = ((torch.arange(BANDS) - pure) / (noisy - pure)).clamp(0, 1)
    heard = ((log_mels - math.log(FLOOR)) / FULL_TEXTURE).clamp(0, 1)
    return log_mels + LIVELINESS * (log_mels - around) + TEXTURE * share * heard * noise


def _channels_first(rows: Tensor) -> Tensor:
    return rows.transpose(1, 2).unsqueeze(2)


def _channels_last(x: Tensor) -> Tensor:
    return x.squeeze(2).transpose(1, 2)
