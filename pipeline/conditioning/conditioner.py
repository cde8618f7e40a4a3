"""Text or reference audio -> one prefix vector of width W (paper 4.1: CLaMP3; embedded: MiniLM and musicnn).

Conventions: vectors are float32 ``[W]``, the same W for text and audio; reference audio is mono.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

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


@runtime_checkable
class BatchConditioner(Protocol):
    """One whose batches the texts and the stretches of audio of several songs fill together."""

    def text_batch(self, texts: Sequence[str]) -> Vectors:
        """``[N, W]``: of each text what `text` says of it alone, bit for bit on the same machine."""

    def audio_batch(self, pieces: Iterable[Audio]) -> Vectors:
        """``[N, W]``: of each stretch what `audio` says of it, bit for bit on the same machine. Asks for one at a
        time."""


def text_vectors(conditioner: Conditioner, texts: Sequence[str]) -> Vectors:
    """``[N, W]`` of texts that know nothing of each other, at once where the conditioner can."""
    if isinstance(conditioner, BatchConditioner):
        return conditioner.text_batch(texts)
    return _rows([conditioner.text([text])[0] for text in texts], conditioner)


def audio_vectors(conditioner: Conditioner, pieces: Iterable[Audio]) -> Vectors:
    """``[N, W]`` of stretches of audio, at once where the conditioner can; one may be made when it is asked for."""
    if isinstance(conditioner, BatchConditioner):
        return conditioner.audio_batch(pieces)
    return _rows([conditioner.audio(piece) for piece in pieces], conditioner)


def _rows(vectors: Sequence[Vectors], conditioner: Conditioner) -> Vectors:
    return np.array(vectors, dtype=np.float32).reshape(len(vectors), conditioner.spec.width)


BACKENDS = {
    "embedded": "pipeline.conditioning.embedded:build",
    "clamp3": "pipeline.conditioning.clamp3.conditioner:build",
}
CLAMP3_ASSETS = ("clamp3", "mert-95m", "xlm-roberta-tokenizer")


AT_ONCE = 40.0  # s of audio in one batch of CLaMP3: eight of MERT's windows; ours
# s of songs that a worker hears at once. Ours: as many as MuCodec encodes, which works in the same stage.
SONGS_AT_ONCE = 600.0


def needs(config: ConditioningConfig) -> Needs:
    """What the chosen backend asks of a machine: 0.37 e9 parameters of CLaMP3's towers, 0.09 e9 of MERT, in float32:
    1.9 GB of weights and eight windows at work; ours."""
    if config.backend == "embedded":
        return SHIPPED
    return Needs(CLAMP3_ASSETS, gpu_memory_gb=3.0, memory_gb=3.0, batch_seconds=AT_ONCE, songs_seconds=SONGS_AT_ONCE)


def build(config: ConditioningConfig) -> Conditioner:
    """Load the conditioner named in the config; `BackendUnavailable` if its weights are missing."""
    conditioner: Conditioner = load_backend("conditioning", BACKENDS, config)
    return conditioner
