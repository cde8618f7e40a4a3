"""Text or reference audio -> one prefix vector of width W (paper 4.1: CLaMP3; embedded: MiniLM and musicnn).

Conventions: vectors are float32 ``[W]``, the same W for text and audio; reference audio is mono.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.assets.needs import SHIPPED, Needs
from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio

Vectors = NDArray[np.float32]


class ConditioningConfig(Config):
    backend: Literal["embedded", "clamp3"] = "embedded"
    reference_seconds: float = 20.48  # s of reference audio behind one vector; paper 5.2
    clamp3_recipe: Literal["official", "released_code"] = "official"  # how CLaMP3 hears: its own way, or LaDA-Band's
    device: Literal["cpu", "cuda"] = "cpu"  # of CLaMP3


@dataclass(frozen=True, slots=True)
class ConditionerSpec:
    """What a record must say of the conditioner that made its vectors."""

    name: str
    weights_sha256: str
    licence: str
    width: int  # W
    reference_seconds: float  # s of reference audio behind one vector
    joint_space: bool  # whether a text-audio cosine means anything


class Conditioner(Protocol):
    spec: ConditionerSpec

    def text(self, texts: Sequence[str]) -> Vectors:
        """Vectors ``[N, W]`` of N texts; the empty text has one too."""

    def audio(self, audio: Audio) -> Vectors:
        """Vector ``[W]`` of one stretch of audio at any sample rate, collapsed to mono; same audio, same vector."""


BACKENDS = {
    "embedded": "pipeline.conditioning.embedded:build",
    "clamp3": "pipeline.conditioning.clamp3.conditioner:build",
}
CLAMP3_ASSETS = ("clamp3", "mert-95m", "xlm-roberta-tokenizer")


def needs(config: ConditioningConfig) -> Needs:
    """What the chosen backend asks of a machine: 0.37 e9 parameters of CLaMP3's towers, 0.09 e9 of MERT, in float32."""
    if config.backend == "embedded":
        return SHIPPED
    return Needs(CLAMP3_ASSETS, gpu_memory_gb=3.0, memory_gb=3.0)  # 1.9 GB of weights and eight windows at work; ours


def build(config: ConditioningConfig) -> Conditioner:
    """Load the conditioner named in the config; `BackendUnavailable` if its weights are missing."""
    conditioner: Conditioner = load_backend("conditioning", BACKENDS, config)
    return conditioner
