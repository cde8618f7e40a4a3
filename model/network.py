"""The mask predictor: a bidirectional Llama over two tracks (paper 4.1).

Own code, parameter names of Hugging Face `LlamaModel` under `lm.` and of the authors' released checkpoint elsewhere.

Shape suffixes: `B` batch, `T` frames, `P` prefix slots, `D` width, `W` prefix vector, `M` masked frames of the batch in
row-major order, `V` codes. Token ids are int64.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from model.config import CODES, MASK, PAD, VOCAL_PAD, ModelConfig
from model.head import CodeHead, Scored, Target
from model.layout import Tracks, accompaniment_rows, lay_out
from model.llama import LlamaStack


class Prediction(NamedTuple):
    """What one forward pass was asked for."""

    logits_MV: Tensor | None  # float32, of the frames asked for
    rtd_BT: Tensor | None  # float32 logits of the discriminator
    scored: Scored | None = None  # in place of the logits where there was a target


class Conditioned(nn.Module):
    """A backbone `lm` behind prefix slots: what networks of codes and of latents share."""

    config: ModelConfig
    lm: LlamaStack
    clamp_proj: nn.Linear
    null_prefix: nn.Parameter | None

    def reset_parameters(self) -> None:
        """Llama's initialisation: normal weights, zero biases, unit norms; a learned null starts at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.init_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def prefix_rows(self, prefix_BPW: Tensor, dropped_BP: Tensor | None) -> Tensor:
        """Projected prefix `[B, P, D]`; a dropped slot stays, its vector zero (or learned) *before* the projection, as
        released. `ValueError` for a prefix of another shape."""
        if prefix_BPW.shape[1:] != (self.config.prefix_slots, self.config.prefix_width):
            wanted = f"[B, {self.config.prefix_slots}, {self.config.prefix_width}]"
            raise ValueError(f"prefix must be {wanted}, got {list(prefix_BPW.shape)}")
        prefix_BPW = prefix_BPW.to(self.clamp_proj.weight.dtype)
        if dropped_BP is not None:
            null_PW = prefix_BPW.new_zeros(()) if self.null_prefix is None else self.null_prefix
            prefix_BPW = torch.where(dropped_BP[:, :, None], null_PW, prefix_BPW)
        projected_BPD: Tensor = self.clamp_proj(prefix_BPW)
        return projected_BPD

    def run(self, tracks: Tracks, valid_BT: Tensor | None, wanted_BT: Tensor | None = None) -> Tensor:
        """Final hidden states `[B, T, D]` of the accompaniment's frames, or `[M, D]` of the wanted ones."""
        some_pad = valid_BT is not None and not bool(valid_BT.all())
        laid = lay_out(self.config, tracks, valid_BT if some_pad else None)
        if wanted_BT is not None and laid.here_BL is None:
            wanted_BL = nn.functional.pad(wanted_BT, (laid.first, 0))
            return cast(Tensor, self.lm(laid.x, laid.reach, laid.position, wanted_BL))
        hidden_BTD = accompaniment_rows(self.lm(laid.x, laid.reach, laid.position), laid)
        return hidden_BTD if wanted_BT is None else hidden_BTD[wanted_BT]


class MaskPredictor(Conditioned):
    """Vocal codes, partly masked accompaniment codes and prefix vectors in; logits of the masked codes out.

    Of `kind: autoregressive` it takes the true codes, shows each frame only those before it, and gives logits of the
    frame itself: everything around it stays the same.
    """

    def __init__(self, config: ModelConfig, rtd: bool) -> None:
        super().__init__()
        if config.kind == "flow" or (rtd and config.kind != "mask"):
            raise ValueError(f"no {'discriminator' if rtd else 'network of codes'} for model.kind {config.kind}")
        self.config = config
        self.lm = LlamaStack(config)
        track = config.width // 2 if config.layout == "dual" else config.width
        self.voc_embed = nn.Embedding(VOCAL_PAD + 1, track)
        self.acc_embed = nn.Embedding(PAD + 1, track)
        self.clamp_proj = nn.Linear(config.prefix_width, config.width)
        self.to_logits = CodeHead(config.width, CODES)  # as wide as the codes: MASK and PAD can't be predicted
        self.rtd_head = nn.Linear(config.width, 1) if rtd else None
        learned = config.null == "learned"
        self.null_prefix = nn.Parameter(torch.zeros(config.prefix_slots, config.prefix_width)) if learned else None
        self.reset_parameters()

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
        target: Target | None = None,
    ) -> Prediction:
        """One pass: logits at `masked_BT` if given, or their loss if a `target` is; discriminator logits if `judge`.

        `detach` keeps the discriminator's gradient from the backbone (`rtd.mode: head_only`). All training goes through
        this method, because DistributedDataParallel sees nothing else.
        """
        if detach and masked_BT is not None:
            raise ValueError("detach would cut the masked logits' gradient too: ask for them in a pass of their own")
        wanted_BT = None if judge else masked_BT
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
            hidden = self.hidden(vocal_BT, accompaniment_BT, prefix_BPW, valid_BT, dropped_BP, wanted_BT)
        judged_BT = self.rtd_logits(hidden) if judge else None
        if masked_BT is None:
            return Prediction(None, judged_BT)
        hidden_MD = hidden[masked_BT] if judge else hidden
        if target is not None:
            return Prediction(None, judged_BT, self.to_logits(hidden_MD, target))
        return Prediction(self.logits(hidden_MD), judged_BT)

    def hidden(
        self,
        vocal_BT: Tensor,
        accompaniment_BT: Tensor,
        prefix_BPW: Tensor,
        valid_BT: Tensor | None = None,
        dropped_BP: Tensor | None = None,
        wanted_BT: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states `[B, T, D]` of the frames, the prefix rows stripped; `[M, D]` of those in `wanted_BT`.

        `valid_BT` is False beyond the end of a song: such frames are no attention keys, and their own states mean
        nothing. `dropped_BP` is True where a condition is absent.
        """
        if self.config.kind == "autoregressive":
            vocal_BT, accompaniment_BT = ahead(vocal_BT, self.config.lookahead), behind(accompaniment_BT)
        prefix_BPD = self.prefix_rows(prefix_BPW, dropped_BP)
        tracks = Tracks(prefix_BPD, self.voc_embed(vocal_BT), self.acc_embed(accompaniment_BT))
        return self.run(tracks, valid_BT, wanted_BT)

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


def behind(accompaniment_BT: Tensor) -> Tensor:
    """What a causal network sees at each frame: the code before it, `MASK` at the first."""
    return torch.cat((torch.full_like(accompaniment_BT[:, :1], MASK), accompaniment_BT[:, :-1]), dim=1)


def ahead(vocal_BT: Tensor, codes: int) -> Tensor:
    """The vocal `codes` frames early, `VOCAL_PAD` behind its end."""
    begun_BT = vocal_BT[:, codes:]
    return torch.cat((begun_BT, torch.full_like(vocal_BT[:, begun_BT.shape[1] :], VOCAL_PAD)), dim=1)


def parameter_counts(network: Conditioned) -> dict[str, int]:
    """Parameters of the backbone (`lm`) and in total."""
    return {
        "backbone": sum(p.numel() for p in network.lm.parameters()),
        "total": sum(p.numel() for p in network.parameters()),
    }
