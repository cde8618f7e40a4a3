"""Quality: named scores of a recording from 1 to 5, higher is better.

Conventions: this stage measures and never judges; the gate lives in selection, outside every stage key. The names of
the scores belong to the backend: ``signal`` gives level, clipping, bandwidth, noise and dynamics, which are properties
of the recording and not of the music.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio

VERSION = 1  # part of the stage's key: bump it when the answer of a backend changes


class Anchors(Config):
    """The two values of a measurement that score 2 and 4; a logistic curve runs through them, from 1 to 5."""

    poor: float
    good: float


class QualityConfig(Config):
    """Anchors: ours, set on four real instrumentals and two real voices, clean and with graded faults."""

    backend: Literal["signal"] = "signal"
    level: Anchors = Anchors(poor=-40.0, good=-28.0)  # dBFS RMS of what isn't silent
    clipping: Anchors = Anchors(poor=0.03, good=0.003)  # share of samples at the level where flat tops would lie
    bandwidth: Anchors = Anchors(poor=5_000.0, good=10_000.0)  # Hz
    noise: Anchors = Anchors(poor=-6.0, good=-12.0)  # dB, what never falls silent against the mean
    dynamics: Anchors = Anchors(poor=5.0, good=9.0)  # dB, peak over RMS in 3 s


@dataclass(frozen=True, slots=True)
class Quality:
    scores: Mapping[str, float]  # name -> 1..5
    mean: float  # of all scores, 1..5


class Rater(Protocol):
    name: str
    config: QualityConfig
    backend: str
    weights_sha256: str
    licence: str

    def __call__(self, audio: Audio) -> Quality:
        """Rate a file of any rate and channel count. Same audio, same scores."""


BACKENDS = {"signal": "pipeline.quality.signal:build"}


def build(config: QualityConfig) -> Rater:
    """Load the backend named in the config; `BackendUnavailable` if its package or weights are missing."""
    rater: Rater = load_backend("quality", BACKENDS, config)
    return rater
