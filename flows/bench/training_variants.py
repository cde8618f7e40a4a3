"""The two ways to one training loss: ours, and a user of Hugging Face's Trainer's.

Conventions: both hold the same weights and take the same batch; a step is one forward and one backward pass, its loss
that of Eq. 3 (`inv_t`), its gradient left in `.grad`.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from model.config import CODES, MASK, ModelConfig, ObjectiveConfig, RtdConfig
from model.data import Batch
from model.head import Target
from model.interchange import to_llama
from model.network import MaskPredictor
from model.objective import Objective, denominators
from model.optimisation import compile_each

OBJECTIVE = ObjectiveConfig(rtd=RtdConfig(weight=0.0))
IGNORED = -100  # label of a frame that is not learnt from


class Ours:
    """What `backline train` does with a micro-batch."""

    def __init__(self, config: ModelConfig, weights: dict[str, Tensor], compiled: bool) -> None:
        self.objective = Objective(config, OBJECTIVE)
        self.objective.network.load_state_dict(weights)
        if compiled:
            compile_each(self.objective.network.lm.layers)

    def clear(self) -> None:
        self.objective.zero_grad()

    def step(self, batch: Batch) -> Tensor:
        self.clear()
        loss = self.objective(batch).masked_loss / denominators(OBJECTIVE, batch).masked.float()
        loss.backward()
        return cast(Tensor, loss.detach())

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The head's part alone."""
        weight = _weights(batch)[batch.mask_BT]
        target = Target(batch.accompaniment_BT[batch.mask_BT], weight)
        return cast(Tensor, self.objective.network.to_logits(hidden[batch.mask_BT], target).loss)

    def gradient_norm(self) -> float:
        return _norm(self.objective)

    def head(self) -> nn.Module:
        return self.objective.network.to_logits


class HuggingFace:
    """`LlamaModel` with `is_causal=False` on our inputs, logits of every frame, `F.cross_entropy` with -100."""

    def __init__(self, config: ModelConfig, weights: dict[str, Tensor], compiled: bool) -> None:
        self.model = FullLogits(config, weights)
        self.run: Any = torch.compile(self.model) if compiled else self.model
        self.loss_of: Any = torch.compile(self.model.loss) if compiled else self.model.loss

    def clear(self) -> None:
        self.model.zero_grad()

    def step(self, batch: Batch) -> Tensor:
        self.clear()
        labels = batch.accompaniment_BT.masked_fill(~batch.mask_BT, IGNORED)
        shown = batch.accompaniment_BT.masked_fill(batch.mask_BT, MASK)
        loss = self.run(batch.vocal_BT, shown, batch.prefix_BPW, labels, _weights(batch))
        loss.backward()
        return cast(Tensor, loss.detach())

    def loss(self, hidden: Tensor, batch: Batch) -> Tensor:
        labels = batch.accompaniment_BT.masked_fill(~batch.mask_BT, IGNORED)
        return cast(Tensor, self.loss_of(hidden, labels, _weights(batch)))

    def gradient_norm(self) -> float:
        return _norm(self.model)

    def head(self) -> nn.Module:
        return self.model.lm_head


class FullLogits(nn.Module):
    """The whole model with its loss inside, as Trainer wants it (and compiles it)."""

    def __init__(self, config: ModelConfig, weights: dict[str, Tensor]) -> None:
        super().__init__()
        ours = MaskPredictor(config, rtd=False)
        ours.load_state_dict(weights)
        self.llama = LlamaModel(llama_config(config))
        self.llama.load_state_dict(to_llama(weights), strict=False)
        del self.llama.embed_tokens  # the inputs are embedded here
        self.voc_embed, self.acc_embed, self.clamp_proj = ours.voc_embed, ours.acc_embed, ours.clamp_proj
        self.lm_head = nn.Linear(config.width, CODES, bias=False)
        self.lm_head.load_state_dict({"weight": weights["to_logits.weight"]})

    def forward(self, vocal: Tensor, shown: Tensor, prefix: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        tracks = torch.cat((self.voc_embed(vocal), self.acc_embed(shown)), dim=-1)
        inputs = torch.cat((self.clamp_proj(prefix), tracks), dim=1)
        hidden = self.llama(inputs_embeds=inputs, use_cache=False).last_hidden_state
        return self.loss(hidden[:, prefix.shape[1] :], labels, weights)

    def loss(self, hidden: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        logits = self.lm_head(hidden).float()
        losses = F.cross_entropy(logits.view(-1, CODES), labels.view(-1), ignore_index=IGNORED, reduction="none")
        return (losses * weights.reshape(-1)).sum()


def llama_config(config: ModelConfig) -> LlamaConfig:
    """The same shape, bidirectional; `vocab_size` is the least that Llama takes, for its embedding is not used."""
    return LlamaConfig(
        vocab_size=1,
        bos_token_id=None,
        eos_token_id=None,
        hidden_size=config.width,
        intermediate_size=config.ffn,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.rms_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        attention_dropout=config.attention_dropout,
        is_causal=False,  # type: ignore[call-arg]  # an attribute, since transformers 5.2
    )


def _weights(batch: Batch) -> Tensor:
    """What each frame's cross-entropy counts in a mean over rows, `[B, T]`: 1 / (t T B)."""
    rows, frames = batch.mask_BT.shape
    return (1 / (batch.ratio_B.float() * frames * rows))[:, None].expand(rows, frames)


def _norm(module: nn.Module) -> float:
    found = [parameter.grad.norm() for parameter in module.parameters() if parameter.grad is not None]
    return float(torch.stack(found).norm())
