"""Onset F1: do two recordings strike at the same moments (paper 5.3)?

Conventions: onset times are float64 seconds, ascending; a match is at most one to one and within a closed window
(``mir_eval.onset``). An F1 means nothing without its chance level: unrelated onsets at 4 a second already score 0.29.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.settings import OnsetConfig
from pipeline.audio import resample, rms_dbfs
from pipeline.jit import librosa
from pipeline.types import Audio, Seconds

Times = NDArray[np.float64]
EDGE = 1e-9  # s; keeps the window closed where 0.55 - 0.5 exceeds 0.05 in floating point


@dataclass(frozen=True, slots=True)
class OnsetScore:
    """F1, precision and recall, each 0..1."""

    f1: float
    precision: float
    recall: float


def onsets(audio: Audio, config: OnsetConfig) -> Times:
    """Onset times of one recording; none where it is silent as a whole."""
    if audio.length == 0 or rms_dbfs(audio) < config.silence_dbfs:
        return np.zeros(0)
    signal = resample(audio.mono(), config.sample_rate).samples[0]
    found = librosa.onset.onset_detect(
        y=signal, sr=config.sample_rate, hop_length=config.hop_samples, backtrack=False, units="time"
    )
    return np.asarray(found, dtype=np.float64)


def matches(reference: Times, estimate: Times, window: Seconds) -> int:
    """Size of the largest one-to-one matching within `window`.

    Both lists ascend and all windows are equally wide, so taking the earliest pair that fits is optimal.
    """
    count = i = j = 0
    while i < len(reference) and j < len(estimate):
        gap = estimate[j] - reference[i]
        if abs(gap) <= window + EDGE:
            count, i, j = count + 1, i + 1, j + 1
        elif gap > 0:
            i += 1
        else:
            j += 1
    return count


def score(reference: Times, estimate: Times, window: Seconds) -> OnsetScore | None:
    """Agreement of two onset lists; `None` where neither has an onset: such a song says nothing."""
    if not len(reference) and not len(estimate):
        return None
    hits = matches(reference, estimate, window)
    precision = hits / len(estimate) if len(estimate) else 0.0
    recall = hits / len(reference) if len(reference) else 0.0
    return OnsetScore(2 * hits / (len(reference) + len(estimate)), precision, recall)


def chance_f1(references: int, estimates: int, duration: Seconds, config: OnsetConfig, seed: int) -> float:
    """Mean F1 of as many unrelated onsets on each side: uniform in `duration` seconds (Poisson, given the counts)."""
    if not references or not estimates:
        return 0.0
    rng = np.random.default_rng(seed)
    hits = [
        matches(np.sort(rng.uniform(0, duration, references)), np.sort(rng.uniform(0, duration, estimates)), window)
        for window in [config.window_seconds] * config.chance_draws
    ]
    return float(2 * np.mean(hits) / (references + estimates))
