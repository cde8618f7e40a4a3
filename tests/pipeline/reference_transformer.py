"""A post-norm transformer encoder written out, to hold ports against: BERT's, RoBERTa's and HuBERT's layers."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]
BERT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "first_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "second_norm": "output.LayerNorm",
}
HUBERT = {
    "query": "attention.q_proj",
    "key": "attention.k_proj",
    "value": "attention.v_proj",
    "out": "attention.out_proj",
    "first_norm": "layer_norm",
    "up": "feed_forward.intermediate_dense",
    "down": "feed_forward.output_dense",
    "second_norm": "final_layer_norm",
}


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: State, name: str, x: Tensor, epsilon: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], epsilon)


def layer(state: State, names: Mapping[str, str], x: Tensor, heads: int, epsilon: float) -> Tensor:
    """``[T, D]`` of a sequence without padding -> ``[T, D]``"""
    mixed = attention(*(linear(state, names[part], x) for part in ("query", "key", "value")), heads=heads)
    x = norm(state, names["first_norm"], x + linear(state, names["out"], mixed), epsilon)
    hidden = gelu(linear(state, names["up"], x))
    return norm(state, names["second_norm"], x + linear(state, names["down"], hidden), epsilon)


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Head by head, nothing masked."""
    size = query.shape[1] // heads
    parts = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = torch.softmax(query[:, part] @ key[:, part].T / math.sqrt(size), dim=-1)
        parts.append(weights @ value[:, part])
    return torch.cat(parts, dim=1)


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
