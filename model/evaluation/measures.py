"""Everything that is measured on one accompaniment beside its voice and its truth.

Conventions: all audio is 48 kHz and as long as the vocal. A metric that can't be measured on a song (both sides
silent) is absent from its mapping, never 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from model.evaluation import chroma, onset
from model.evaluation.frechet import Embeddings
from model.evaluation.settings import EvaluationSettings
from pipeline.audio import as_stereo
from pipeline.codec.codec import Codec
from pipeline.encoders.musicnn import MusiCNN
from pipeline.quality.stage import Quality
from pipeline.types import Audio

PEAK = 0.999  # full scale; a mix above it is turned down as a whole


class Embedder(Protocol):
    """Audio -> embeddings for the Fréchet distance."""

    name: str
    weights_sha256: str

    def __call__(self, audio: Audio) -> Embeddings:
        """``[N, D]``, one row per window of a fixed length."""


class MusicnnEmbedder:
    """musicnn's penultimate layer, one row per 3 s; loads its weights at once."""

    def __init__(self) -> None:
        self._network = MusiCNN()
        self.name = f"{self._network.name}/penultimate"
        self.weights_sha256 = self._network.weights_sha256

    def __call__(self, audio: Audio) -> Embeddings:
        return self._network(audio).embedding


@dataclass(frozen=True, slots=True)
class Judges:
    """The tools that measure; `singing_share` is 0..1 of the audio's length."""

    codec: Codec
    rate: Callable[[Audio], Quality]
    singing_share: Callable[[Audio], float]
    embed: Embedder
    rater_name: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """What accompaniments of one song are measured against."""

    vocal: Audio
    truth_onsets: onset.Times
    vocal_onsets: onset.Times
    truth_chroma: chroma.Chromagram


def refer(vocal: Audio, truth: Audio, settings: EvaluationSettings) -> Reference:
    """Analyse the voice and the true accompaniment once for all systems."""
    return Reference(
        vocal,
        onset.onsets(truth, settings.onset),
        onset.onsets(vocal, settings.onset),
        chroma.chromagram(truth, settings.chroma),
    )


def measure(
    accompaniment: Audio, reference: Reference, judges: Judges, settings: EvaluationSettings, seed: int
) -> dict[str, float]:
    """All per-song metrics of one accompaniment."""
    values = _timing(accompaniment, reference, settings, seed)
    similar = chroma.similarity(reference.truth_chroma, chroma.chromagram(accompaniment, settings.chroma))
    if similar is not None:
        values |= {"chroma_framewise": similar.framewise, "chroma_song": similar.song}
    quality = judges.rate(mix(reference.vocal, accompaniment))
    values |= {f"quality_{name}": float(value) for name, value in quality.scores.items()}
    values["quality_mean"] = float(quality.mean)
    values["singing_share"] = float(judges.singing_share(accompaniment))
    return values


def mix(vocal: Audio, accompaniment: Audio) -> Audio:
    """Voice and band together in stereo, turned down as a whole where the sum would clip."""
    if vocal.sample_rate != accompaniment.sample_rate or vocal.length != accompaniment.length:
        raise ValueError(
            f"vocal ({vocal.sample_rate} Hz, {vocal.length}) and accompaniment ({accompaniment.sample_rate} Hz, "
            f"{accompaniment.length}) must have one rate and one length to be mixed"
        )
    samples = as_stereo(vocal).samples + as_stereo(accompaniment).samples
    peak = float(np.abs(samples).max(initial=0.0))
    return Audio(samples * np.float32(PEAK / peak) if peak > PEAK else samples, vocal.sample_rate)


def _timing(accompaniment: Audio, reference: Reference, settings: EvaluationSettings, seed: int) -> dict[str, float]:
    found = onset.onsets(accompaniment, settings.onset)
    values = {"onsets_per_second": len(found) / accompaniment.duration}
    targets = {"onset_f1": reference.truth_onsets, "onset_f1_vocal": reference.vocal_onsets}
    for name, target in targets.items():
        score = onset.score(target, found, settings.onset.window_seconds)
        if score is not None:
            chance = onset.chance_f1(len(target), len(found), accompaniment.duration, settings.onset, seed)
            values |= {name: score.f1, f"{name}_chance": chance}
    return values
