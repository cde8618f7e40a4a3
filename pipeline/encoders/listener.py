"""What both musicnn taggers hear in one stretch of music, and the summary that small networks of ours read.

Conventions: rows are windows of about 3 s, in time; the first 50 columns of tags are MagnaTagATune's, then the Million
Song's; embeddings likewise, 200 each.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.encoders.musicnn import LICENCE, MusiCNN
from pipeline.types import Audio

SUMMARY = 900  # numbers in a summary
TAG_FLOOR = 0.01  # probability below which a tag counts as absent; ours


@dataclass(frozen=True, slots=True)
class Heard:
    """One row per window."""

    tags: NDArray[np.float32]  # [N, 100] probabilities
    embedding: NDArray[np.float32]  # [N, 400] penultimate layers

    def summary(self) -> NDArray[np.float64]:
        """``[900]``: mean log of the tags, mean and deviation of the embeddings over the windows."""
        tags = np.log(self.tags.astype(np.float64) + TAG_FLOOR)
        embedding = self.embedding.astype(np.float64)
        return np.concatenate([tags.mean(axis=0), embedding.mean(axis=0), embedding.std(axis=0)])


class Listener:
    """Both taggers. `BackendUnavailable` if the `musicnn` package is not installed."""

    licence = LICENCE

    def __init__(self) -> None:
        self._taggers = (MusiCNN("MTT_musicnn"), MusiCNN("MSD_musicnn"))
        self.labels = tuple(label for tagger in self._taggers for label in tagger.labels)
        self.weights_sha256 = hashlib.sha256("".join(t.weights_sha256 for t in self._taggers).encode()).hexdigest()

    def __call__(self, audio: Audio) -> Heard:
        """Audio of any rate, channel count and length; same audio, same answer."""
        mtt, msd = (tagger(audio) for tagger in self._taggers)
        return Heard(
            np.concatenate([mtt.tags, msd.tags], axis=1), np.concatenate([mtt.embedding, msd.embedding], axis=1)
        )
