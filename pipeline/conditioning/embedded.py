"""The embedded conditioner: MiniLM for text; for audio, the words that are heard in it, put where texts about them lie.

An audio vector is a sum of directions in MiniLM's space, each weighted by how much more likely its word is than in any
song: styles and instruments by a head of our own on musicnn (`pipeline.encoders.words`), trained on rendered songs with
their truth, and the two taggers' own hundred tags, which keep the space sensible for music that we don't render.
Texts keep MiniLM's vectors unchanged. The bench (`flows.bench.conditioning`) says what that is worth.

Conventions: vectors are float32 ``[384]`` with norm 1, for text and audio alike. A cosine compares texts with *words
that were chosen for the sound*: it ranks recordings for one text, it doesn't measure as CLaMP3's does.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.conditioning.conditioner import ConditionerSpec, ConditioningConfig, Vectors
from pipeline.conditioning.directions import Directions
from pipeline.encoders.listener import Heard, Listener
from pipeline.encoders.minilm import WIDTH, MiniLM
from pipeline.encoders.words import LICENCE, Words
from pipeline.types import Audio

# Shares of the parts; ours, by five-fold retrieval among the training songs with held-out phrases.
INSTRUMENTS = 0.3  # of the instruments beside the styles' 1
TAGS = 0.3  # of the taggers' own tags, whose vector has norm 1
# Tags about voices say nothing of a reference accompaniment.
VOICE_TAGS = frozenset(
    {"vocal", "vocals", "female", "male", "woman", "man", "singing", "choir", "choral", "voice", "solo", "instrumental"}
    | {"no vocals", "no vocal", "no voice", "male vocal", "female vocal", "male voice", "female voice", "opera"}
    | {"female vocalists", "male vocalists", "female vocalist"}
)


class EmbeddedConditioner:
    """Text and audio -> unit vectors of width 384. `BackendUnavailable` if a package with weights is missing."""

    def __init__(self, config: ConditioningConfig) -> None:
        self.config = config
        self._minilm, self._listener, self._words = MiniLM(), Listener(), Words()
        head = self._words.head
        self._directions = Directions((*head.styles, *head.instruments))
        parts = (self._minilm, self._listener, self._words, self._directions)
        self.spec = ConditionerSpec(
            name="embedded",
            weights_sha256=hashlib.sha256("".join(part.weights_sha256 for part in parts).encode()).hexdigest(),
            licence=f"{self._minilm.licence} (MiniLM), {self._listener.licence} (musicnn), {LICENCE} (words)",
            width=WIDTH,
            joint_space=True,
            reference_seconds=config.reference_seconds,
        )

    def text(self, texts: Sequence[str]) -> Vectors:
        """``[N, 384]``; the empty text has a vector too."""
        return self._minilm(texts)

    def audio(self, audio: Audio) -> Vectors:
        """``[384]`` of one stretch of audio of any rate and channel count."""
        return self.heard(self._listener(audio))

    def heard(self, heard: Heard) -> Vectors:
        """``[384]`` of what the taggers heard."""
        vector = self._of_words(heard) + TAGS * _unit(self._of_tags(heard))
        return _unit(vector).astype(np.float32)

    def _of_words(self, heard: Heard) -> NDArray[np.float64]:
        guess, head = self._words(heard), self._words.head
        shares = np.concatenate([guess.styles, guess.instruments]) - head.prior
        shares[len(head.styles) :] *= INSTRUMENTS
        return np.asarray(shares @ self._directions.vectors)

    def _of_tags(self, heard: Heard) -> NDArray[np.float64]:
        return np.asarray(np.sqrt(heard.tags.mean(axis=0, dtype=np.float64)) @ self._tag_vectors)

    @cached_property
    def _tag_vectors(self) -> NDArray[np.float64]:
        """``[100, 384]``, a row per tag of both taggers; zero for tags about voices, the others sum to zero."""
        used = np.array([label not in VOICE_TAGS for label in self._listener.labels])
        vectors = self._minilm([f"{label} music" for label in self._listener.labels]).astype(np.float64)
        return np.where(used[:, None], vectors - vectors[used].mean(axis=0), 0.0)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def build(config: ConditioningConfig) -> EmbeddedConditioner:
    return EmbeddedConditioner(config)
