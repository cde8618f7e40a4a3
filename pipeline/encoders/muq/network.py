"""MuQ's encoder: two residual convolutions over the mel spectrogram, then a conformer with rotary positions.

Conventions: names of parameters are the published ones below ``model.``; B batch, T frames at 25 Hz, D width. A hidden
state is what enters a layer: state 0 comes before the first one, state n after the n-th; the last one also went through
the closing norm. What MuQ has for its training alone (codebooks, class token, masked-token head, an unused positional
convolution) is not built.

Sounds of unequal length share a batch in the conformer alone (`pipeline.encoders.muq.together`): ``real``, bool
``[B, T]``, says which states are a row's own; attention does not see the others, and the depthwise convolutions find
zeros there, as beyond a sound's end. Norms and feed-forward parts work state by state. None: all are.
"""

from dataclasses import dataclass
from itertools import islice
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.encoders.muq.mel import BANDS, normalised

FRAME_RATE = 25  # states a second
SAMPLES_PER_STATE = 960  # at 24 kHz
THETA = 10_000.0  # of the rotary positions; w2v2_config.json
HEAD = 64  # width of one head, in every published size
PIECE = 6144  # spectrogram frames (61 s) convolved at once: 0.4 GB for each inner picture at full size; ours
MARGIN = 12  # frames beside a piece: a state hears 9 on either side, and places stay multiples of 4


@dataclass(frozen=True, slots=True)
class MuQShape:
    """Sizes; the defaults are those of MuQ large."""

    width: int = 1024
    layers: int = 12
    heads: int = 16
    inner: int = 4096  # of the feed-forward parts
    kernel: int = 31  # frames, of the depthwise convolutions
    channels: int = 512  # of the residual convolutions


class Residual(nn.Module):
    """3 x 3 convolutions with batch norm; halves bands and frames."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(ins, outs, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outs)
        self.conv3 = nn.Conv2d(ins, outs, 3, stride=2, padding=1)
        self.bn3 = nn.BatchNorm2d(outs)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.bn3(self.conv3(x)) + inner)


class Subsampling(nn.Module):
    """``[B, 128, frames]`` at 100 Hz -> ``[B, T, D]`` at 25 Hz, T = ceil(ceil(frames / 2) / 2)."""

    def __init__(self, shape: MuQShape) -> None:
        super().__init__()
        self.conv = nn.Sequential(Residual(1, shape.channels), Residual(shape.channels, shape.channels))
        self.linear = nn.Linear(shape.channels * (BANDS // 4), shape.width)

    def forward(self, mel: Tensor) -> Tensor:
        """In pieces that overlap as far as a state hears: the states are those of the whole."""
        return torch.cat([self._piece(mel, start) for start in range(0, mel.shape[-1], PIECE)], dim=1)

    def _piece(self, mel: Tensor, start: int) -> Tensor:
        first = max(0, start - MARGIN)
        x = self.conv(mel[:, None, :, first : start + PIECE + MARGIN])  # [B, channels, 32, t]
        x = x[..., (start - first) // 4 :][..., : PIECE // 4]
        return cast(Tensor, self.linear(x.permute(0, 3, 1, 2).flatten(2)))


class FeedForward(nn.Module):
    def __init__(self, shape: MuQShape) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(shape.width, shape.inner)
        self.output_dense = nn.Linear(shape.inner, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.output_dense(F.silu(self.intermediate_dense(x))))


class Attention(nn.Module):
    """Self-attention; positions turn the input of queries and keys, before their projections."""

    def __init__(self, shape: MuQShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (
            nn.Linear(shape.width, shape.width) for _ in range(4)
        )

    def forward(self, x: Tensor, turns: Tensor, real: Tensor | None = None) -> Tensor:
        placed = turned(_split(x, self.heads), turns).flatten(-2)
        query, key, value = (
            _split(project(source), self.heads).transpose(1, 2)
            for project, source in ((self.linear_q, placed), (self.linear_k, placed), (self.linear_v, x))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, None if real is None else real[:, None, None])
        return cast(Tensor, self.linear_out(mixed.transpose(1, 2).flatten(-2)))


class Convolution(nn.Module):
    """Gated pointwise, depthwise with batch norm, pointwise."""

    def __init__(self, shape: MuQShape) -> None:
        super().__init__()
        width = shape.width
        self.layer_norm = nn.LayerNorm(width)
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1, bias=False)
        self.depthwise_conv = nn.Conv1d(width, width, shape.kernel, padding=shape.kernel // 2, groups=width, bias=False)
        self.batch_norm = nn.BatchNorm1d(width)
        self.pointwise_conv2 = nn.Conv1d(width, width, 1, bias=False)

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        y = F.glu(self.pointwise_conv1(self.layer_norm(x).transpose(1, 2)), dim=1)
        if real is not None:
            y = y.masked_fill(~real[:, None], 0.0)
        y = F.silu(self.batch_norm(self.depthwise_conv(y)))
        return cast(Tensor, self.pointwise_conv2(y).transpose(1, 2))


class Layer(nn.Module):
    """Half a feed-forward step, attention, convolution, the other half, norm."""

    def __init__(self, shape: MuQShape) -> None:
        super().__init__()
        self.ffn1_layer_norm, self.ffn1 = nn.LayerNorm(shape.width), FeedForward(shape)
        self.self_attn_layer_norm, self.self_attn = nn.LayerNorm(shape.width), Attention(shape)
        self.conv_module = Convolution(shape)
        self.ffn2_layer_norm, self.ffn2 = nn.LayerNorm(shape.width), FeedForward(shape)
        self.final_layer_norm = nn.LayerNorm(shape.width)

    def forward(self, x: Tensor, turns: Tensor, real: Tensor | None = None) -> Tensor:
        x = x + 0.5 * self.ffn1(self.ffn1_layer_norm(x))
        x = x + self.self_attn(self.self_attn_layer_norm(x), turns, real)
        x = x + self.conv_module(x, real)
        x = x + 0.5 * self.ffn2(self.ffn2_layer_norm(x))
        return cast(Tensor, self.final_layer_norm(x))


class Conformer(nn.Module):
    def __init__(self, shape: MuQShape) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))


class MuQ(nn.Module):
    """Audio at 24 kHz -> hidden states. Answers depend on the whole piece of audio, not on its batch mates."""

    def __init__(self, shape: MuQShape | None = None) -> None:
        super().__init__()
        self.shape = shape or MuQShape()
        self.conv = Subsampling(self.shape)
        self.conformer = Conformer(self.shape)

    def forward(self, audio: Tensor, last: int | None = None) -> tuple[Tensor, ...]:
        """``[B, samples]`` -> states 0 to `last` (all layers where None), each ``[B, T, D]``; later layers don't run.

        T = ceil(ceil(samples // 240 / 2) / 2). `ValueError` for a layer that there is not, or too few samples.
        """
        depth = len(self.conformer.layers) if last is None else last
        if not 0 <= depth <= len(self.conformer.layers):
            raise ValueError(f"MuQ has hidden states 0 to {len(self.conformer.layers)}, not {depth}")
        return self.from_front(self.front(audio), depth)

    def front(self, audio: Tensor) -> Tensor:
        """State 0, ``[B, T, D]``, of ``[B, samples]``."""
        return cast(Tensor, self.conv(normalised(audio).to(self.conv.linear.weight.dtype)))

    def from_mel(self, mel: Tensor, depth: int) -> tuple[Tensor, ...]:
        """States 0 to `depth` of the normalised spectrogram ``[B, 128, frames]``."""
        return self.from_front(self.conv(mel), depth)

    def from_front(self, first: Tensor, depth: int, real: Tensor | None = None) -> tuple[Tensor, ...]:
        """States 0 to `depth` from state 0, ``[B, T, D]``; those that are not `real` mean nothing."""
        states = [first]
        turns = rotations(first, self.shape.width // self.shape.heads)
        for layer in islice(self.conformer.layers, depth):
            states.append(layer(states[-1], turns, real))
        if depth and depth == len(self.conformer.layers):
            states[-1] = self.conformer.layer_norm(states[-1])
        return tuple(states)


def rotations(x: Tensor, head: int) -> Tensor:
    """``[2, T, 1, head]``: cosine and sine of every position's angles, in float32 or the input's higher precision."""
    steps = 1.0 / (THETA ** (torch.arange(0, head, 2, device=x.device).float() / head))
    steps = steps.to(torch.promote_types(torch.float32, x.dtype))
    angles = torch.arange(x.shape[1], device=x.device).to(steps.dtype)[:, None] * steps
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return torch.stack([angles.cos(), angles.sin()]).to(x.dtype)


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """``[B, T, heads, head]`` with every pair of the two halves turned by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    return x * turns[0] + torch.cat([-second, first], dim=-1) * turns[1]


def _split(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1)
