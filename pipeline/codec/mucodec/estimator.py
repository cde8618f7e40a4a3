"""MuCodec's decoder network: a transformer on patches of the latent picture that estimates the flow at a time.

Conventions: names of parameters are the published ones below ``cfm_wrapper.estimator.``; B batch, H frames of latents
(12.5 Hz), W their 32 bands, N = H W / 4 patches. Time is 0 (noise) to 1 (latents).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

HEAD = 72  # width of one head, in the published size; configs/models/transformer2D.json
PATCH = 2
EPSILON = 1e-6  # of the norms
TIME_WIDTH = 512  # of the sine table of time
TIME_SCALE, MAX_PERIOD = 1000.0, 10_000.0
BASE_SIZE = 192  # patches: half of sample_size 384
INTERPOLATION = 6  # sample_size // 64


@dataclass(frozen=True, slots=True)
class EstimatorShape:
    """Sizes; the defaults are those of the published weights."""

    heads: int = 22
    head: int = HEAD
    layers: int = 24
    ins: int = 96  # noisy latents, latents known before, condition: 32 each
    outs: int = 32

    @property
    def width(self) -> int:
        return self.heads * self.head


class Attention(nn.Module):
    def __init__(self, shape: EstimatorShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(shape.width, shape.width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(shape.width, shape.width)])

    def forward(self, x: Tensor) -> Tensor:
        rows, patches, width = x.shape
        query, key, value = (
            part(x).view(rows, patches, self.heads, -1).transpose(1, 2) for part in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return cast(Tensor, self.to_out[0](mixed.transpose(1, 2).reshape(rows, patches, width)))


class Projection(nn.Module):
    """The feed-forward part's way in."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        # The second one stands for a dropout, which had no parameters but a place in the names.
        self.net = nn.Sequential(Projection(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.net(x))


class Block(nn.Module):
    """Attention and feed-forward, each with a shift, a scale and a gate that follow from the time."""

    def __init__(self, shape: EstimatorShape) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(6, shape.width))
        self.attn1, self.ff = Attention(shape), FeedForward(shape.width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``[B, N, D]`` with time ``[B, 6, D]``."""
        shift, scale, gate, shift_after, scale_after, gate_after = (self.scale_shift_table + time).chunk(6, dim=1)
        x = x + gate * self.attn1(_norm(x) * (1 + scale) + shift)
        return cast(Tensor, x + gate_after * self.ff(_norm(x) * (1 + scale_after) + shift_after))


class TimeEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(TIME_WIDTH, width), nn.Linear(width, width)

    def forward(self, waves: Tensor) -> Tensor:
        return cast(Tensor, self.linear_2(F.silu(self.linear_1(waves))))


class Times(nn.Module):
    """A time -> its embedding, and the six modulations that all blocks share."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": TimeEmbedding(width)})
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """``[B]`` -> ``[B, D]``, ``[B, 6, D]``."""
        embedded: Tensor = self.emb["timestep_embedder"](waves(time).to(self.linear.weight.dtype))
        modulations: Tensor = self.linear(F.silu(embedded))
        return embedded, modulations.view(len(time), 6, -1)


class Estimator(nn.Module):
    def __init__(self, shape: EstimatorShape | None = None) -> None:
        super().__init__()
        self.shape = shape or EstimatorShape()
        width = self.shape.width
        self.pos_embed = nn.ModuleDict({"proj": nn.Conv2d(self.shape.ins, width, PATCH, PATCH)})
        self.transformer_blocks = nn.ModuleList(Block(self.shape) for _ in range(self.shape.layers))
        self.adaln_single = Times(width)
        self.scale_shift_table = nn.Parameter(torch.zeros(2, width))
        self.proj_out = nn.Linear(width, PATCH * PATCH * self.shape.outs)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``[B, 96, H, W]`` at times ``[B]`` -> the flow ``[B, 32, H, W]``."""
        height, width = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        y: Tensor = self.pos_embed["proj"](x).flatten(2).transpose(1, 2)
        y = y + torch.from_numpy(positions(self.shape.width, height, width)).to(y)
        embedded, modulations = self.adaln_single(time)
        for block in self.transformer_blocks:
            y = block(y, modulations)
        shift, scale = (self.scale_shift_table + embedded[:, None]).chunk(2, dim=1)
        y = self.proj_out(_norm(y) * (1 + scale) + shift)
        y = y.view(-1, height, width, PATCH, PATCH, self.shape.outs)
        return y.permute(0, 5, 1, 3, 2, 4).reshape(len(x), self.shape.outs, height * PATCH, width * PATCH)


def waves(time: Tensor) -> Tensor:
    """``[B]`` -> ``[B, 512]`` cosines, then sines, in the time's own precision."""
    half = TIME_WIDTH // 2
    rates = torch.exp(-math.log(MAX_PERIOD) * torch.arange(half, device=time.device) / half).to(time.dtype)
    angles = time[:, None] * rates * TIME_SCALE
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@lru_cache(maxsize=4)
def positions(width: int, across: int, down: int) -> NDArray[np.float32]:
    """``[across * down, width]``: sines and cosines of the band's place, then of the frame's, spread over 32 units."""
    frames, bands = (np.arange(size, dtype=np.float32) / (size / BASE_SIZE) / INTERPOLATION for size in (across, down))
    halves = (np.tile(bands, across), np.repeat(frames, down))
    return np.concatenate([_sines(width // 2, places) for places in halves], axis=1).astype(np.float32)


def _sines(width: int, places: NDArray[np.floating]) -> NDArray[np.float64]:
    rates = 1.0 / MAX_PERIOD ** (np.arange(width // 2, dtype=np.float64) / (width / 2.0))
    angles = places.astype(np.float64)[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON)
