"""The mask predictor: a bidirectional Llama over two tracks side by side (paper 4.1).

Own code, parameter names of Hugging Face `LlamaModel` under `lm.` and of the authors' released checkpoint elsewhere.

Shape suffixes: `B` batch, `T` frames, `P` prefix slots, `L` = P + T, `D` width, `W` prefix vector, `H` heads, `K`
key-value heads, `E` head width, `M` masked frames of the batch in row-major order, `V` codes. Token ids are int64.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import CODES, PAD, VOCAL_PAD, ModelConfig

ROPE_FACTOR, ROPE_LOW, ROPE_HIGH, ROPE_ORIGINAL = 32.0, 1.0, 4.0, 8192  # Llama 3.2's `rope_scaling` of type llama3


class Prediction(NamedTuple):
    """What one forward pass was asked for."""

    logits_MV: Tensor | None  # float32, of the frames asked for
    rtd_BT: Tensor | None  # float32 logits of the discriminator


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


def rope_tables(config: ModelConfig, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines `[L, E]` of positions 0..L-1 (the prefix counts), in the dtype and on the device of `like`."""
    position = torch.arange(length, dtype=torch.float32, device=like.device)
    angle = torch.outer(position, rope_frequencies(config, like.device)).repeat(1, 2)
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)


def rotate(x_BHLE: Tensor, cos_LE: Tensor, sin_LE: Tensor) -> Tensor:
    """Rotary position, rotate-half convention (Llama as Hugging Face stores it)."""
    first, second = x_BHLE.chunk(2, dim=-1)
    return x_BHLE * cos_LE + torch.cat((-second, first), dim=-1) * sin_LE


class RmsNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        high = x if x.dtype == torch.float64 else x.float()
        return self.weight * (high * torch.rsqrt(high.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention of every frame to every valid frame: never causal."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        keys = config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.width, config.heads * config.head_dim, bias=False)
        self.k_proj = nn.Linear(config.width, keys, bias=False)
        self.v_proj = nn.Linear(config.width, keys, bias=False)
        self.o_proj = nn.Linear(config.heads * config.head_dim, config.width, bias=False)

    def forward(self, x_BLD: Tensor, rope: tuple[Tensor, Tensor], allow_B11L: Tensor | None) -> Tensor:
        c = self.config
        B, L, _ = x_BLD.shape
        q_BHLE = rotate(self.q_proj(x_BLD).view(B, L, c.heads, c.head_dim).transpose(1, 2), *rope)
        k_BKLE = rotate(self.k_proj(x_BLD).view(B, L, c.kv_heads, c.head_dim).transpose(1, 2), *rope)
        v_BKLE = self.v_proj(x_BLD).view(B, L, c.kv_heads, c.head_dim).transpose(1, 2)
        y_BHLE = F.scaled_dot_product_attention(
            q_BHLE,
            self._spread(k_BKLE),
            self._spread(v_BKLE),
            attn_mask=allow_B11L,
            dropout_p=c.attention_dropout if self.training else 0.0,
            is_causal=False,
        )
        out_BLD: Tensor = self.o_proj(y_BHLE.transpose(1, 2).reshape(B, L, c.heads * c.head_dim))
        return out_BLD

    def _spread(self, x_BKLE: Tensor) -> Tensor:
        """Each key-value head, repeated for the query heads that share it."""
        return x_BKLE.repeat_interleave(self.config.heads // self.config.kv_heads, dim=1)


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

    def forward(self, x_BLD: Tensor, rope: tuple[Tensor, Tensor], allow_B11L: Tensor | None) -> Tensor:
        x_BLD = x_BLD + self.self_attn(self.input_layernorm(x_BLD), rope, allow_B11L)
        out_BLD: Tensor = x_BLD + self.mlp(self.post_attention_layernorm(x_BLD))
        return out_BLD


class LlamaStack(nn.Module):
    """Llama's decoder layers and final norm, without its causal mask and its token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.width, config.rms_eps)

    def forward(self, x_BLD: Tensor, allow_BL: Tensor | None = None) -> Tensor:
        """Final hidden states; `allow_BL` is False at frames that nobody may attend to, None when there are none."""
        rope = rope_tables(self.config, x_BLD.shape[1], x_BLD)
        allow_B11L = None if allow_BL is None else allow_BL[:, None, None, :]
        for layer in self.layers:
            x_BLD = layer(x_BLD, rope, allow_B11L)
        out_BLD: Tensor = self.norm(x_BLD)
        return out_BLD


class MaskPredictor(nn.Module):
    """Vocal codes, partly masked accompaniment codes and prefix vectors in; logits of the masked codes out."""

    def __init__(self, config: ModelConfig, rtd: bool) -> None:
        super().__init__()
        self.config = config
        self.lm = LlamaStack(config)
        self.voc_embed = nn.Embedding(VOCAL_PAD + 1, config.width // 2)
        self.acc_embed = nn.Embedding(PAD + 1, config.width // 2)
        self.clamp_proj = nn.Linear(config.prefix_width, config.width)
        self.to_logits = nn.Linear(
            config.width, CODES, bias=False
        )  # as wide as the codes: MASK and PAD can't be predicted
        self.rtd_head = nn.Linear(config.width, 1) if rtd else None
        learned = config.null == "learned"
        self.null_prefix = nn.Parameter(torch.zeros(config.prefix_slots, config.prefix_width)) if learned else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Llama's initialisation: normal weights, zero biases, unit norms; a learned null starts at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.init_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self,
        vocal_BT: Tensor,
        accompaniment_BT: Tensor,
        prefix_BPW: Tensor,
        valid_BT: Tensor | None = None,
        dropped_BP: Tensor | None = None,
        masked_BT: Tensor | None = None,
        judge: bool = False,
        detach: bool = False,
    ) -> Prediction:
        """One pass: logits at `masked_BT` if given, discriminator logits if `judge`.

        `detach` keeps the discriminator's gradient from the backbone (`rtd.mode: head_only`). All training goes through
        this method, because DistributedDataParallel sees nothing else.
        """
        if detach and masked_BT is not None:
            raise ValueError("detach would cut the masked logits' gradient too: ask for them in a pass of their own")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
            hidden_BTD = self.hidden(vocal_BT, accompaniment_BT, prefix_BPW, valid_BT, dropped_BP)
        return Prediction(
            None if masked_BT is None else self.logits(hidden_BTD[masked_BT]),
            self.rtd_logits(hidden_BTD) if judge else None,
        )

    def hidden(
        self,
        vocal_BT: Tensor,
        accompaniment_BT: Tensor,
        prefix_BPW: Tensor,
        valid_BT: Tensor | None = None,
        dropped_BP: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states `[B, T, D]` of the frames, the prefix rows stripped.

        `valid_BT` is False beyond the end of a song: such frames are no attention keys, and their own states mean
        nothing. `dropped_BP` is True where a condition is absent.
        """
        prefix_BPD = self._prefix(prefix_BPW, dropped_BP)
        tracks_BTD = torch.cat((self.voc_embed(vocal_BT), self.acc_embed(accompaniment_BT)), dim=-1)
        allow_BL = None
        if valid_BT is not None and not bool(valid_BT.all()):
            allow_BL = torch.cat((valid_BT.new_ones(prefix_BPD.shape[:2]), valid_BT), dim=1)
        hidden_BLD = self.lm(torch.cat((prefix_BPD, tracks_BTD), dim=1), allow_BL)
        stripped_BTD: Tensor = hidden_BLD[:, prefix_BPD.shape[1] :]
        return stripped_BTD

    def _prefix(self, prefix_BPW: Tensor, dropped_BP: Tensor | None) -> Tensor:
        """Projected prefix; a dropped slot stays, its vector zero (or learned) *before* the projection, as released."""
        if prefix_BPW.shape[1:] != (self.config.prefix_slots, self.config.prefix_width):
            wanted = f"[B, {self.config.prefix_slots}, {self.config.prefix_width}]"
            raise ValueError(f"prefix must be {wanted}, got {list(prefix_BPW.shape)}")
        prefix_BPW = prefix_BPW.to(self.clamp_proj.weight.dtype)
        if dropped_BP is not None:
            null_PW = prefix_BPW.new_zeros(()) if self.null_prefix is None else self.null_prefix
            prefix_BPW = torch.where(dropped_BP[:, :, None], null_PW, prefix_BPW)
        projected_BPD: Tensor = self.clamp_proj(prefix_BPW)
        return projected_BPD

    def logits(self, hidden_MD: Tensor) -> Tensor:
        """Logits `[M, V]`, float32 at least, of the rows of hidden states given."""
        logits_MV: Tensor = self.to_logits(hidden_MD)
        return logits_MV if logits_MV.dtype == torch.float64 else logits_MV.float()

    def rtd_logits(self, hidden_BTD: Tensor) -> Tensor:
        """Discriminator logits `[B, T]`, float32 at least."""
        if self.rtd_head is None:
            raise ValueError("this network was built without a discriminator (rtd.weight is 0)")
        logits_BT: Tensor = self.rtd_head(hidden_BTD).squeeze(-1)
        return logits_BT if logits_BT.dtype == torch.float64 else logits_BT.float()


def parameter_counts(network: MaskPredictor) -> dict[str, int]:
    """Parameters of the backbone (`lm`) and in total."""
    return {
        "backbone": sum(p.numel() for p in network.lm.parameters()),
        "total": sum(p.numel() for p in network.parameters()),
    }
