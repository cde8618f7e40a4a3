"""Chroma similarity: do two recordings play the same harmony (the paper's HPCP similarity, 5.3)?

Conventions: a chromagram is float32 ``[12, F]`` magnitudes, bin 0 = C, concert pitch 440 Hz, no tuning estimate and no
transposition (the key must fit the voice). The frame-wise cosine is the score to trust: the song-level cosine
can't tell a progression from its reverse.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.settings import ChromaConfig
from pipeline.audio import resample
from pipeline.jit import librosa
from pipeline.types import Audio

FLOOR = 1e-12  # power; -120 dBFS, keeps the logarithm finite


@dataclass(frozen=True, slots=True)
class Chromagram:
    """Harmony over time."""

    bins: NDArray[np.float32]  # [12, F]
    audible: NDArray[np.bool_]  # [F]


@dataclass(frozen=True, slots=True)
class ChromaScore:
    """Cosines, 0..1."""

    framewise: float  # mean over the frames that both sides sound in
    song: float  # of the two time averages over the same frames


def chromagram(audio: Audio, config: ChromaConfig) -> Chromagram:
    """The constant-Q chromagram of one recording, with its silent frames marked."""
    signal = resample(audio.mono(), config.sample_rate).samples[0]
    bins = librosa.feature.chroma_cqt(
        y=signal, sr=config.sample_rate, hop_length=config.hop_samples, tuning=0.0, norm=None, threshold=0.0
    )
    hop = config.hop_samples  # frame k of the transform is centred on sample k * hop
    frames = librosa.util.frame(np.pad(signal, (hop // 2, hop)), frame_length=hop, hop_length=hop)
    power = np.mean(np.square(frames, dtype=np.float64), axis=0)
    level = 10 * np.log10(power + FLOOR)
    count = min(bins.shape[1], len(level))
    return Chromagram(bins[:, :count].astype(np.float32), level[:count] >= config.silence_dbfs)


def similarity(reference: Chromagram, estimate: Chromagram) -> ChromaScore | None:
    """Cosines over the frames where both sound; 0 if they never do, `None` if the reference is silent throughout."""
    frames = min(len(reference.audible), len(estimate.audible))
    if not reference.audible[:frames].any():
        return None
    both = reference.audible[:frames] & estimate.audible[:frames]
    if not both.any():
        return ChromaScore(0.0, 0.0)
    a, b = reference.bins[:, :frames][:, both], estimate.bins[:, :frames][:, both]
    return ChromaScore(float(np.mean(_cosine(a, b))), float(_cosine(a.mean(axis=1), b.mean(axis=1))))


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine along axis 0; 0 where a side is all zeros."""
    dot = np.sum(a * b, axis=0, dtype=np.float64)
    norm = np.sqrt(np.sum(np.square(a, dtype=np.float64), axis=0) * np.sum(np.square(b, dtype=np.float64), axis=0))
    cosine: NDArray[np.float64] = np.divide(dot, norm, out=np.zeros_like(dot), where=norm > 0)
    return cosine
