"""Llama's decoder layers as a plain module: rotary positions, grouped-query attention, SwiGLU, RMS norm.

Own code, parameter names of Hugging Face `LlamaModel`. Bidirectional unless `Reach` says otherwise.

Shape suffixes: `B` batch, `L` positions, `D` width, `H` heads, `K` key-value heads, `E` head width, `M` rows wanted of
the batch in row-major order, `Q` the most of them in one song.
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


class Wanted(NamedTuple):
    """The rows that somebody asks for: the last layer computes no others."""

    rows_M: Tensor  # int64, which of the B * L rows
    query_BQ: Tensor  # int64, the same song by song; filled up with row 0 where a song has fewer
    place_M: Tensor  # int64, where each is among the B * Q

    @classmethod
    def of(cls, wanted_BL: Tensor) -> "Wanted":
        count_B = wanted_BL.sum(dim=1)
        most = torch.arange(int(count_B.max()), device=count_B.device)
        rows_M = wanted_BL.flatten().nonzero().squeeze(1)
        place_M = (most < count_B[:, None]).flatten().nonzero().squeeze(1)
        query = rows_M.new_zeros(len(count_B) * len(most)).index_copy(0, place_M, rows_M)
        return cls(rows_M, query.view(len(count_B), len(most)), place_M)

    def queries(self, x_BLD: Tensor) -> Tensor:
        """`[B, Q, D]`."""
        B, Q = self.query_BQ.shape
        return x_BLD.flatten(0, 1).index_select(0, self.query_BQ.flatten()).view(B, Q, -1)


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

    def forward(
        self,
        x_BLD: Tensor,
        rope: tuple[Tensor, Tensor],
        reach: Reach,
        cache: Cache | None = None,
        wanted: Wanted | None = None,
    ) -> Tensor:
        """What each row gathers `[B, L, D]`; the wanted ones alone `[M, D]`, from all keys."""
        k_BKLE, v_BKLE = rotate(self._heads(self.k_proj(x_BLD)), *rope), self._heads(self.v_proj(x_BLD))
        if cache is not None:
            k_BKLE, v_BKLE = cache.add(k_BKLE, v_BKLE)
        if wanted is not None:
            rope = tuple(wanted.queries(_each_row(table, x_BLD)).unsqueeze(1) for table in rope)  # type: ignore[assignment]
            x_BLD = wanted.queries(x_BLD)
        q_BHLE = rotate(self._heads(self.q_proj(x_BLD)), *rope)
        y_BHLE = self._attend(q_BHLE, self._spread(k_BKLE), self._spread(v_BKLE), reach)
        y_BLD = y_BHLE.transpose(1, 2).flatten(2)
        if wanted is not None:
            y_BLD = y_BLD.flatten(0, 1).index_select(0, wanted.place_M)
        out: Tensor = self.o_proj(y_BLD)
        return out

    def _heads(self, x_BLD: Tensor) -> Tensor:
        return x_BLD.view(*x_BLD.shape[:2], -1, self.config.head_dim).transpose(1, 2)

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

    def forward(
        self,
        x_BLD: Tensor,
        rope: tuple[Tensor, Tensor],
        reach: Reach,
        cache: Cache | None = None,
        wanted: Wanted | None = None,
    ) -> Tensor:
        """All rows `[B, L, D]`, or the wanted ones `[M, D]`."""
        gathered = self.self_attn(self.input_layernorm(x_BLD), rope, reach, cache, wanted)
        x = (x_BLD if wanted is None else x_BLD.flatten(0, 1).index_select(0, wanted.rows_M)) + gathered
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class LlamaStack(nn.Module):
    """Llama's decoder layers and final norm, without its causal mask and its token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.width, config.rms_eps)

    def forward(
        self,
        x_BLD: Tensor,
        reach: Reach = EVERYWHERE,
        position: Tensor | None = None,
        wanted_BL: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states `[B, L, D]`; positions `[L]` or `[B, L]`, 0..L-1 where none are given.

        `wanted_BL` (bool): the states of those rows alone, `[M, D]`, which spares the last layer the others.
        """
        if position is None:
            position = torch.arange(x_BLD.shape[1], device=x_BLD.device)
        rope = rope_tables(self.config, position, x_BLD)
        seen = reach._replace(caches=())  # each layer gets its own alone
        caches = reach.caches or (None,) * len(self.layers)
        for layer, cache in zip(self.layers[:-1], caches, strict=False):
            x_BLD = layer(x_BLD, rope, seen, cache)
        wanted = Wanted.of(wanted_BL) if wanted_BL is not None and _sees_alike(reach) else None
        if wanted is not None and not len(wanted.rows_M):
            wanted = None
        last = self.layers[-1](x_BLD, rope, seen, caches[-1], wanted)
        out: Tensor = self.norm(last[wanted_BL] if wanted is None and wanted_BL is not None else last)
        return out


def _sees_alike(reach: Reach) -> bool:
    """Whether any row of a song sees the same keys as any other."""
    apart = reach.causal or reach.pieces or reach.caches
    return not apart and (reach.allow is None or reach.allow.shape[-2] == 1)


def _each_row(table: Tensor, x_BLD: Tensor) -> Tensor:
    """Rope tables `[L, E]` or `[B, 1, L, E]` as `[B, L, E]`."""
    return table.reshape(-1, *table.shape[-2:]).expand(len(x_BLD), -1, -1)
