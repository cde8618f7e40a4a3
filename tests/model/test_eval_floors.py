"""Floors and ceiling stand under the loudness rule that the model was trained with."""

import numpy as np
import pytest

from model.evaluation.floors import random_codes, through_codec
from pipeline.audio import peak_dbfs, rms_dbfs
from pipeline.codec.codec import SAMPLE_RATE, CodecSpec, Codes, token_count
from pipeline.loudness import LoudnessConfig
from pipeline.types import Audio


class Recorder:
    """A codec that plays one tone, and keeps the level of what it heard."""

    spec = CodecSpec("tone", "", "CC0-1.0", window_tokens=0, hop_samples=0, phases=1, context_frames=0)

    def __init__(self) -> None:
        self.heard: list[float] = []

    def encode(self, audio: Audio) -> Codes:
        self.heard.append(rms_dbfs(audio))
        return np.zeros((1, token_count(audio.length)), np.uint16)

    def decode(self, codes: Codes) -> Audio:
        time = np.arange(len(codes) * 1920) / SAMPLE_RATE
        tone = 0.1 * np.sin(2 * np.pi * 220 * time)
        return Audio(np.stack([tone, tone]).astype(np.float32), SAMPLE_RATE)


@pytest.mark.parametrize("rms", [-16.0, -26.0])
def test_the_ceiling_is_encoded_at_the_level_of_training(rms: float) -> None:
    codec = Recorder()
    truth = Audio(0.01 * np.random.default_rng(0).standard_normal((2, 48_000)).astype(np.float32), SAMPLE_RATE)
    through_codec(codec, truth, LoudnessConfig(rms=rms))
    assert codec.heard == [pytest.approx(rms, abs=0.01)]


@pytest.mark.parametrize("peak", [-1.0, -6.0])
def test_random_codes_keep_the_peak_of_the_rule(peak: float) -> None:
    assert peak_dbfs(random_codes(Recorder(), 48_000, 60.0, 0, LoudnessConfig(peak=peak))) == pytest.approx(
        peak, abs=0.01
    )
