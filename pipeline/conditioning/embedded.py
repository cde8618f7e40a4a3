"""The embedded conditioner: MiniLM for text; for audio, what two musicnn taggers hear, put into MiniLM's space.

An audio vector is the sum of MiniLM's vectors of the taggers' words, each less their common mean and weighted by the
square root of its probability: some 80 numbers about style, instruments and mood, in the space where texts lie. That is
what `joint_space` rests on: for 28 accompaniments that we rendered, the one that a style text describes was among the
first 5 for 61 % (chance 18 %), and the nearest one was of the text's style for 57 % (chance 20 %). Adding musicnn's own
embedding in other directions brought that down to chance, so it is left out.

Conventions: vectors are float32 ``[384]`` with norm 1, for text and audio alike. A cosine compares texts with *words
that a tagger chose*: it ranks recordings for one text, it doesn't measure as CLaMP3's does.
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
        self._minilm = MiniLM()
        self._taggers = (MusiCNN("MTT_musicnn"), MusiCNN("MSD_musicnn"))
        hashes = [self._minilm.weights_sha256, *(tagger.weights_sha256 for tagger in self._taggers)]
        self.spec = ConditionerSpec(
            name="embedded",
            weights_sha256=hashlib.sha256("".join(hashes).encode()).hexdigest(),
            licence=f"{self._minilm.licence} (MiniLM), {MusiCNN.licence} (musicnn)",
            width=WIDTH,
            joint_space=True,
            reference_seconds=config.reference_seconds,
        )

    def text(self, texts: Sequence[str]) -> Vectors:
        """``[N, 384]``; the empty text has a vector too."""
        return self._minilm(texts)

    def audio(self, audio: Audio) -> Vectors:
        """``[384]`` of one stretch of audio of any rate and channel count."""
        heard = np.concatenate([tagger(audio).tags.mean(axis=0) for tagger in self._taggers]).astype(np.float64)
        vector = np.sqrt(heard) @ self._tag_vectors
        return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)

    @cached_property
    def _tag_vectors(self) -> NDArray[np.float64]:
        """``[100, 384]``, a row per tag of both taggers; zero for tags about voices, the others sum to zero."""
        labels = [label for tagger in self._taggers for label in tagger.labels]
        used = np.array([label not in VOICE_TAGS for label in labels])
        vectors = self._minilm([f"{label} music" for label in labels]).astype(np.float64)
        return np.where(used[:, None], vectors - vectors[used].mean(axis=0), 0.0)


def build(config: ConditioningConfig) -> EmbeddedConditioner:
    return EmbeddedConditioner(config)
