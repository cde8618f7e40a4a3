"""AudioLDM's 48 kHz autoencoder: log-mel spectrogram <-> latents, an eighth of its frames and bands.

Conventions: names of parameters are the published ones below ``first_stage_model.``; spectrograms are
``[B, 1, frames, 256]`` natural logarithms of mel magnitude at 100 Hz, latents ``[B, 16, frames / 8, 32]``, scaled.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32  # of the group norms; no tensor's size tells it, so a network of fewer channels has as many as divide them


@dataclass(frozen=True, slots=True)
class VaeShape:
    """Sizes; the defaults are those of the published weights."""

    channels: int = 128  # of the finest level
    multiples: tuple[int, ...] = (1, 2, 4, 8)  # of it, level by level
    blocks: int = 2  # residual blocks a level; one more on the way up
    latents: int = 16  # channels
    groups: int = GROUPS  # of the group norms


class Residual(nn.Module):
    def __init__(self, ins: int, outs: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(ins, groups), nn.Conv2d(ins, outs, 3, padding=1)
        self.norm2, self.conv2 = _norm(outs, groups), nn.Conv2d(outs, outs, 3, padding=1)
        if ins != outs:
            self.nin_shortcut = nn.Conv2d(ins, outs, 1)
        self.same = ins == outs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return cast(Tensor, (x if self.same else self.nin_shortcut(x)) + y)


class Attention(nn.Module):
    """One head over all places of the picture."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(channels, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm(x)
        query, key, value = (part(normal).flatten(2).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return x + cast(Tensor, self.proj_out(mixed.transpose(1, 2).reshape(x.shape)))


class Middle(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.block_1 = Residual(channels, channels, groups)
        self.attn_1 = Attention(channels, groups)
        self.block_2 = Residual(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.block_2(self.attn_1(self.block_1(x))))


class Level(nn.Module):
    """Residual blocks of one size, then the step to the next one where there is one."""

    def __init__(self, ins: int, outs: int, blocks: int, groups: int, step: str) -> None:
        super().__init__()
        self.block = nn.ModuleList(Residual(ins if n == 0 else outs, outs, groups) for n in range(blocks))
        if step == "down":
            self.downsample = nn.ModuleDict({"conv": nn.Conv2d(outs, outs, 3, stride=2)})
        if step == "up":
            self.upsample = nn.ModuleDict({"conv": nn.Conv2d(outs, outs, 3, padding=1)})
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        if self.step == "down":  # one row and one column of zeros behind the picture, none before it
            x = self.downsample["conv"](F.pad(x, (0, 1, 0, 1)))
        if self.step == "up":
            x = self.upsample["conv"](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Encoder(nn.Module):
    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        sizes, last = _sizes(shape), len(shape.multiples) - 1
        self.conv_in = nn.Conv2d(1, shape.channels, 3, padding=1)
        self.down = nn.ModuleList(
            Level(sizes[max(0, n - 1)], sizes[n], shape.blocks, shape.groups, "down" if n < last else "")
            for n in range(last + 1)
        )
        self.mid = Middle(sizes[-1], shape.groups)
        self.norm_out = _norm(sizes[-1], shape.groups)
        self.conv_out = nn.Conv2d(sizes[-1], 2 * shape.latents, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return cast(Tensor, self.conv_out(F.silu(self.norm_out(self.mid(x)))))


class Decoder(nn.Module):
    def __init__(self, shape: VaeShape) -> None:
        super().__init__()
        sizes, last = _sizes(shape), len(shape.multiples) - 1
        self.conv_in = nn.Conv2d(shape.latents, sizes[-1], 3, padding=1)
        self.mid = Middle(sizes[-1], shape.groups)
        self.up = nn.ModuleList(
            Level(sizes[min(last, n + 1)], sizes[n], shape.blocks + 1, shape.groups, "up" if n else "")
            for n in range(last + 1)
        )
        self.norm_out = _norm(sizes[0], shape.groups)
        self.conv_out = nn.Conv2d(sizes[0], 1, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.mid(self.conv_in(latents))
        for level in reversed(self.up):
            x = level(x)
        return cast(Tensor, self.conv_out(F.silu(self.norm_out(x))))


class Autoencoder(nn.Module):
    """Both ways; `scale` is the number beside the published weights that latents were multiplied by."""

    def __init__(self, shape: VaeShape | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.shape, self.scale = shape or VaeShape(), scale
        latents = self.shape.latents
        self.encoder, self.decoder = Encoder(self.shape), Decoder(self.shape)
        self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1)
        self.post_quant_conv = nn.Conv2d(latents, latents, 1)

    def moments(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 1, frames, 256]`` -> mean and standard deviation of its latents, not scaled."""
        mean, logarithm = self.quant_conv(self.encoder(mel)).chunk(2, dim=1)
        return mean, torch.exp(0.5 * logarithm.clamp(-30.0, 20.0))

    def decode(self, latents: Tensor) -> Tensor:
        """``[B, 16, frames / 8, 32]`` -> ``[B, 1, frames, 256]``."""
        return cast(Tensor, self.decoder(self.post_quant_conv(1.0 / self.scale * latents)))


def _sizes(shape: VaeShape) -> list[int]:
    return [shape.channels * multiple for multiple in shape.multiples]


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=1e-6)
