"""The embedded conditioner: MiniLM for text; for audio, what two musicnn taggers hear, put into MiniLM's space.

An audio vector is the sum of two orthogonal parts of equal norm. The first is the mean of MiniLM's vectors of the
taggers' words, weighted by the words' probabilities: it lies where texts lie. The second is a 200-d embedding of timbre
and texture, turned by a fixed rotation into the directions that no tag's vector uses: detail for the model that a text
can't say.

Conventions: vectors are float32 ``[384]`` with norm 1, for text and audio alike; `joint_space` holds because of the
first part. A cosine compares texts with *words that a tagger chose*: it ranks recordings, it doesn't measure as
CLaMP3's does.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.conditioning.conditioner import ConditionerSpec, ConditioningConfig, Vectors
from pipeline.encoders.minilm import WIDTH, MiniLM
from pipeline.encoders.musicnn import MusiCNN
from pipeline.types import Audio

ROTATION_SEED = 384  # of the embedding's directions; part of the backend: other vectors, another backend name
_VOICE_WORDS = frozenset(
    {
        "vocal",
        "female",
        "male",
        "singing",
        "vocals",
        "no vocals",
        "woman",
        "male vocal",
        "no vocal",
        "solo",
        "man",
        "choir",
    }
    | {
        "voice",
        "male voice",
        "female vocal",
        "no voice",
        "female voice",
        "choral",
        "female vocalists",
        "male vocalists",
    }
    | {"instrumental", "female vocalist", "opera"}
)


class EmbeddedConditioner:
    """Text and audio -> unit vectors of width 384. `BackendUnavailable` if a package with weights is missing."""

    def __init__(self, config: ConditioningConfig) -> None:
        self.config = config
        self._minilm = MiniLM()
        self._taggers = (MusiCNN("MTT_musicnn"), MusiCNN("MSD_musicnn"))
        hashes = [self._minilm.weights_sha256, *(tagger.weights_sha256 for tagger in self._taggers)]
        self.spec = ConditionerSpec(
            name="embedded",
            weights_sha256=hashlib.sha256("".join(hashes).encode()).hexdigest(),
            licence=f"{self._minilm.licence} (MiniLM), {MusiCNN.licence} (musicnn)",
            width=WIDTH,
            reference_seconds=config.reference_seconds,
            joint_space=True,
        )

    def text(self, texts: Sequence[str]) -> Vectors:
        """``[N, 384]``; the empty text has a vector too."""
        return self._minilm(texts)

    def audio(self, audio: Audio) -> Vectors:
        """``[384]`` of one stretch of audio of any rate and channel count."""
        outputs = [tagger(audio) for tagger in self._taggers]
        heard = np.concatenate([output.tags.mean(axis=0) for output in outputs]).astype(np.float64)
        texture = outputs[0].embedding.mean(axis=0).astype(np.float64)
        vector = _unit(heard @ self._tag_vectors) + _unit(texture @ self._rotation)
        return _unit(vector).astype(np.float32)

    @cached_property
    def _tag_vectors(self) -> NDArray[np.float64]:
        """``[100, 384]``, a row per tag of both taggers, zero for tags about voices: the vocal track tells those."""
        labels = [label for tagger in self._taggers for label in tagger.labels]
        used = np.array([label not in _VOICE_WORDS for label in labels], dtype=np.float64)
        return used[:, None] * self._minilm([f"{label} music" for label in labels]).astype(np.float64)

    @cached_property
    def _rotation(self) -> NDArray[np.float64]:
        """``[200, 384]`` orthonormal rows, all orthogonal to every tag vector."""
        random = np.random.default_rng(ROTATION_SEED).standard_normal((WIDTH, 200))
        basis, _ = np.linalg.qr(
            np.concatenate([self._tag_vectors[np.any(self._tag_vectors, axis=1)].T, random], axis=1)
        )
        return np.ascontiguousarray(basis[:, -200:].T)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def build(config: ConditioningConfig) -> EmbeddedConditioner:
    return EmbeddedConditioner(config)
