"""Where words lie in MiniLM's space: one unit direction per style and instrument that the head of words knows.

A direction is trained to be nearer to texts about its word than to texts about the others (`pipeline.conditioning.
training`), held to the mean of those texts; MiniLM itself stays as it is.

Conventions: rows are the head's styles, then its instruments, norm 1.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.encoders.minilm import WIDTH
from pipeline.errors import BackendUnavailable

SHIPPED = Path(__file__).parent / "weights" / "directions.safetensors"
LICENCE = "Apache-2.0"


@dataclass(frozen=True, slots=True)
class WordVectors:
    """Words and their directions."""

    words: tuple[str, ...]  # K
    vectors: NDArray[np.float64]  # [K, 384]

    def __post_init__(self) -> None:
        if self.vectors.shape != (len(self.words), WIDTH):
            raise ValueError(f"directions are {self.vectors.shape}, expected {(len(self.words), WIDTH)}")

    def to_bytes(self) -> bytes:
        """A safetensors file in half precision; the same vectors give the same bytes."""
        arrays = {"vectors": self.vectors.astype(np.float16)}
        return bytes(save(arrays, metadata={"words": json.dumps(self.words)}))


class Directions:
    """The shipped directions, or another file. `BackendUnavailable` if it isn't one, or knows other `words`."""

    licence = LICENCE

    def __init__(self, words: tuple[str, ...], path: Path = SHIPPED) -> None:
        self._path = path
        found = load_vectors(path)
        if found.words != words:
            unlike = sorted(set(found.words) ^ set(words))
            raise BackendUnavailable(f"{path} has other words than the head: {unlike}; train both in one run")
        self.vectors = found.vectors

    @cached_property
    def weights_sha256(self) -> str:
        return hashlib.sha256(self._path.read_bytes()).hexdigest()


def load_vectors(path: Path) -> WordVectors:
    """Read what `WordVectors.to_bytes` wrote."""
    try:
        with safe_open(path, framework="np") as file:
            words = tuple(json.loads((file.metadata() or {})["words"]))
            return WordVectors(words, file.get_tensor("vectors").astype(np.float64))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        remedy = "reinstall backline, or train it with backline conditioning train"
        raise BackendUnavailable(f"{path} holds no directions: {error}; {remedy}") from error
