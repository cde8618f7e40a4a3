"""SongFormer's network: four streams of hidden states -> boundaries and function labels, three frames in one.

Conventions: names are those of the published checkpoint. Frames come at 25 Hz and leave at 8.333 Hz; the transformer is
x-transformers' encoder as the checkpoint was trained with it (2.4.14): layer norm without bias before every block and
at the end, rotary positions in pairs of neighbours on half of every head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LABELS = 128  # outputs of the function head; 69 have a name
KERNEL = 3  # frames, and the stride


@dataclass(frozen=True, slots=True)
class Shape:
    """configs/SongFormer.yaml; smaller in tests."""

    streams: int = 4096  # width of the four streams together
    fused: int = 2048
    down: int = 1024
    width: int = 512
    layers: int = 4
    heads: int = 8
    head: int = 64
    data_sets: int = 64


class SongFormer(nn.Module):
    """``[B, T, streams]`` -> boundary logits ``[B, T // 3]`` and function logits ``[B, T // 3, 128]``."""

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        shape = shape or Shape()
        self.mixed_win_downsample = nn.Linear(shape.streams, shape.fused)
        self.input_norm = nn.LayerNorm(shape.fused)
        self.down_sample_conv = Downsample(shape.fused, shape.down)
        self.dataset_class_prefix = nn.Embedding(shape.data_sets, shape.down)
        self.transformer = Body(shape)
        self.boundary_head = Head(shape.width, 1)
        self.function_head = Head(shape.width, LABELS)
        self.train(False)

    def forward(self, streams: Tensor, data_set: Tensor) -> tuple[Tensor, Tensor]:
        """`data_set`: int64 ``[B]``, whose labelling habits to follow."""
        x = self.down_sample_conv(self.input_norm(self.mixed_win_downsample(streams)))
        x = self.transformer(x + self.dataset_class_prefix(data_set)[:, None])
        return self.boundary_head(x)[..., 0], self.function_head(x)


class Downsample(nn.Module):
    """Three frames to one: a depthwise and a pointwise convolution beside a mean."""

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv1d(wide, wide, KERNEL, KERNEL, groups=wide, bias=False)
        self.pointwise_conv = nn.Conv1d(wide, narrow, 1, bias=False)
        self.residual_conv = nn.Conv1d(wide, narrow, 1, bias=False)
        self.norm1 = nn.LayerNorm(narrow)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)
        heard = self.pointwise_conv(self.depthwise_conv(frames))
        kept = self.residual_conv(F.avg_pool1d(frames, KERNEL, KERNEL))
        return F.gelu(self.norm1((heard + kept).transpose(1, 2)))


class Head(nn.Module):
    def __init__(self, width: int, answers: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, answers))

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.net(x)
        return answer


class Body(nn.Module):
    """The projection into the transformer, and the transformer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        into = nn.Linear(shape.down, shape.width)
        again = nn.Linear(shape.width, shape.width)
        # the fourth is dropout: it keeps the fifth's published number
        self.input_proj = nn.Sequential(into, nn.LayerNorm(shape.width), nn.GELU(), nn.Identity(), again)
        self.transformer = Encoder(shape)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.transformer(self.input_proj(x))
        return answer


class Encoder(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        blocks = [block for _ in range(shape.layers) for block in (Attention(shape), FeedForward(shape.width))]
        self.layers = nn.ModuleList(nn.ModuleList([nn.ModuleList([Norm(shape.width)]), block]) for block in blocks)
        self.rotary_pos_emb = Rotary(shape.head // 2)
        self.final_norm = Norm(shape.width)

    def forward(self, x: Tensor) -> Tensor:
        angles = self.rotary_pos_emb(x.shape[1])
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            norms, block = layer
            assert isinstance(norms, nn.ModuleList)
            x = x + block(norms[0](x), angles)
        answer: Tensor = self.final_norm(x)
        return answer


class Norm(nn.Module):
    """Layer norm with a gain of 1 + gamma and no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:]) * (1 + self.gamma)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, inner = shape.heads, shape.heads * shape.head
        self.to_q, self.to_k, self.to_v = (nn.Linear(shape.width, inner, bias=False) for _ in range(3))
        self.to_out = nn.Linear(inner, shape.width, bias=False)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        query, key, value = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.projections)
        mixed = F.scaled_dot_product_attention(rotated(query, angles), rotated(key, angles), value)
        answer: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return answer

    @property
    def projections(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.to_q, self.to_k, self.to_v


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        up = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU())
        self.ff = nn.Sequential(up, nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        answer: Tensor = self.ff(x)
        return answer


class Rotary(nn.Module):
    """Angles of positions; the frequencies are in the checkpoint."""

    inv_freq: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / 10_000 ** (torch.arange(0, size, 2).float() / size))

    def forward(self, length: int) -> Tensor:
        """``[T, size / 2]``"""
        places = torch.arange(length, device=self.inv_freq.device, dtype=self.inv_freq.dtype)
        return places[:, None] * self.inv_freq


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Heads ``[B, H, T, D]``: the first ``2 * angles.shape[1]`` numbers are pairs that turn, the rest stays."""
    size = 2 * angles.shape[1]
    first, second = x[..., 0:size:2], x[..., 1:size:2]
    cosine, sine = angles.cos(), angles.sin()
    turned = torch.stack([first * cosine - second * sine, second * cosine + first * sine], dim=-1).flatten(-2)
    return torch.cat([turned, x[..., size:]], dim=-1)
