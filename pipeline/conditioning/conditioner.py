"""Text or reference audio -> one prefix vector of width W (paper 4.1: CLaMP3; embedded: MiniLM and musicnn).

Conventions: vectors are float32 ``[W]``, the same W for text and audio; reference audio is mono.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio

Vectors = NDArray[np.float32]


class ConditioningConfig(Config):
    backend: Literal["embedded"] = "embedded"  # "clamp3" arrives with its port
    reference_seconds: float = 20.48  # s of reference audio behind one vector; paper 5.2


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


BACKENDS = {"embedded": "pipeline.conditioning.embedded:build"}


def build(config: ConditioningConfig) -> Conditioner:
    """Load the conditioner named in the config; `BackendUnavailable` if its weights are missing."""
    conditioner: Conditioner = load_backend("conditioning", BACKENDS, config)
    return conditioner
