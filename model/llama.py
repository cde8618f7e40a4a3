"""Llama's decoder layers as a plain module: rotary positions, grouped-query attention, SwiGLU, RMS norm.

Own code, parameter names of Hugging Face `LlamaModel`. Bidirectional unless `Reach` says otherwise.

Shape suffixes: `B` batch, `L` positions, `D` width, `H` heads, `K` key-value heads, `E` head width.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import ModelConfig

ROPE_FACTOR, ROPE_LOW, ROPE_HIGH, ROPE_ORIGINAL = 32.0, 1.0, 4.0, 8192  # Llama 3.2's `rope_scaling` of type llama3


class Cache:
    """Keys and values of one layer so far, of at most `length` positions: of causal attention, whose past stays."""

    def __init__(self, length: int) -> None:
        self.length, self.filled = length, 0
        self.kept: tuple[Tensor, Tensor] | None = None  # keys and values, [B, K, length, E]

    def add(self, k_BKLE: Tensor, v_BKLE: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values there are, these the last of them."""
        if self.kept is None:
            B, K, _, E = k_BKLE.shape
            self.kept = (k_BKLE.new_empty(B, K, self.length, E), v_BKLE.new_empty(B, K, self.length, E))
        begin, self.filled = self.filled, self.filled + k_BKLE.shape[2]
        keys, values = self.kept
        keys[:, :, begin : self.filled], values[:, :, begin : self.filled] = k_BKLE, v_BKLE
        return keys[:, :, : self.filled], values[:, :, : self.filled]


class Reach(NamedTuple):
    """Who may attend to whom; the default is everybody to everybody, without a mask."""

    allow: Tensor | None = None  # bool, broadcast to [B, 1, L, L]: False where a key may not be looked at
    causal: bool = False  # positions see what came before them, and themselves
    pieces: tuple[int, ...] = ()  # lengths of the songs that lie end to end in the one row and don't see one another
    caches: tuple[Cache, ...] = ()  # one a layer: the rows follow what these hold, and see all of it


EVERYWHERE = Reach()


def rope_frequencies(config: ModelConfig, device: torch.device) -> Tensor:
    """Radians a position `[E / 2]`, float32 whatever the model's dtype: bfloat16 positions would repeat beyond 256."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device=device) / config.head_dim
    frequency = 1.0 / (config.rope_theta**exponent)
    if not config.rope_scaling:
        return frequency
    wavelength = 2 * math.pi / frequency
    smooth = (ROPE_ORIGINAL / wavelength - ROPE_LOW) / (ROPE_HIGH - ROPE_LOW)
    blended = (1 - smooth) * frequency / ROPE_FACTOR + smooth * frequency
    slow, fast = wavelength > ROPE_ORIGINAL / ROPE_LOW, wavelength < ROPE_ORIGINAL / ROPE_HIGH
    return torch.where(slow, frequency / ROPE_FACTOR, torch.where(fast, frequency, blended))


def rope_tables(config: ModelConfig, position: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines `[L, E]` of positions `[L]`, or `[B, 1, L, E]` of `[B, L]`; dtype and device of `like`."""
    position = position.to(device=like.device, dtype=torch.float32)
    angle = (position[..., None] * rope_frequencies(config, like.device)).repeat(*[1] * position.ndim, 2)
    if position.ndim == 2:
        angle = angle[:, None]
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def rotate(x_BHLE: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position, rotate-half convention (Llama as Hugging Face stores it)."""
    first, second = x_BHLE.chunk(2, dim=-1)
    return x_BHLE * cos + torch.cat((-second, first), dim=-1) * sin


class RmsNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        high = x if x.dtype == torch.float64 else x.float()
        return self.weight * (high * torch.rsqrt(high.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        keys = config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.width, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.width, keys, bias=False)
        self.v_proj = nn.Linear(config.width, keys, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.width, bias=False)

    def forward(self, x_BLD: Tensor, rope: tuple[Tensor, Tensor], reach: Reach, cache: Cache | None = None) -> Tensor:
        c = self.config
        B, L, _ = x_BLD.shape
        q_BHLE = rotate(self.q_proj(x_BLD).view(B, L, c.heads, c.head_dim).transpose(1, 2), *rope)
        k_BKLE = rotate(self.k_proj(x_BLD).view(B, L, c.kv_heads, c.head_dim).transpose(1, 2), *rope)
        v_BKLE = self.v_proj(x_BLD).view(B, L, c.kv_heads, c.head_dim).transpose(1, 2)
        if cache is not None:
            k_BKLE, v_BKLE = cache.add(k_BKLE, v_BKLE)
        y_BHLE = self._attend(q_BHLE, self._spread(k_BKLE), self._spread(v_BKLE), reach)
        out_BLD: Tensor = self.o_proj(y_BHLE.transpose(1, 2).reshape(B, L, c.heads * c.head_dim))
        return out_BLD

    def _attend(self, q_BHLE: Tensor, k_BHLE: Tensor, v_BHLE: Tensor, reach: Reach) -> Tensor:
        """Songs that lie end to end are attended one by one: no mask, hence the fastest kernel there is."""
        if not reach.pieces:
            return self._one(q_BHLE, k_BHLE, v_BHLE, reach)
        cut = [torch.split(x, list(reach.pieces), dim=2) for x in (q_BHLE, k_BHLE, v_BHLE)]
        return torch.cat([self._one(q, k, v, reach) for q, k, v in zip(*cut, strict=True)], dim=2)

    def _one(self, q_BHLE: Tensor, k_BHLE: Tensor, v_BHLE: Tensor, reach: Reach) -> Tensor:
        return F.scaled_dot_product_attention(
            q_BHLE,
            k_BHLE,
            v_BHLE,
            attn_mask=reach.allow,
            dropout_p=self.config.attention_dropout if self.training else 0.0,
            is_causal=reach.causal,
        )

    def _spread(self, x_BKLE: Tensor) -> Tensor:
        """Each key-value head, repeated for the query heads that share it."""
        shared = self.config.heads // self.config.kv_heads
        return x_BKLE if shared == 1 else x_BKLE.repeat_interleave(shared, dim=1)


class SwiGlu(nn.Module):
    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, ffn, bias=False)
        self.up_proj = nn.Linear(width, ffn, bias=False)
        self.down_proj = nn.Linear(ffn, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        out_BLD: Tensor = self.down_proj(F.silu(self.gate_proj(x_BLD)) * self.up_proj(x_BLD))
        return out_BLD


class Layer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = SwiGlu(config.width, config.ffn)
        self.input_layernorm = RmsNorm(config.width, config.rms_eps)
        self.post_attention_layernorm = RmsNorm(config.width, config.rms_eps)

    def forward(self, x_BLD: Tensor, rope: tuple[Tensor, Tensor], reach: Reach, cache: Cache | None = None) -> Tensor:
        x_BLD = x_BLD + self.self_attn(self.input_layernorm(x_BLD), rope, reach, cache)
        out_BLD: Tensor = x_BLD + self.mlp(self.post_attention_layernorm(x_BLD))
        return out_BLD


class LlamaStack(nn.Module):
    """Llama's decoder layers and final norm, without its causal mask and its token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.width, config.rms_eps)

    def forward(self, x_BLD: Tensor, reach: Reach = EVERYWHERE, position: Tensor | None = None) -> Tensor:
        """Final hidden states; positions `[L]` or `[B, L]`, 0..L-1 where none are given."""
        if position is None:
            position = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        rope = rope_tables(self.config, position, x_BLD)
        seen = reach._replace(caches=())  # each layer gets its own alone
        caches = reach.caches or (None,) * len(self.layers)
        for layer, cache in zip(self.layers, caches, strict=True):
            x_BLD = layer(x_BLD, rope, seen, cache)
        out_BLD: Tensor = self.norm(x_BLD)
        return out_BLD
