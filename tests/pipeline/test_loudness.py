"""The loudness rule as a setting: targets are reached, peaks are kept, silence stays."""

import numpy as np
import pytest

from pipeline.audio import peak_dbfs, rms_dbfs
from pipeline.loudness import LoudnessConfig, gain_db, level
from pipeline.types import Audio


def noise(crest: float = 1.0) -> Audio:
    samples = 0.01 * np.random.default_rng(0).uniform(-1, 1, (2, 48_000)).astype(np.float32)
    samples[0, 0] *= crest
    return Audio(samples, 48_000)


@pytest.mark.parametrize("rms", [-16.0, -23.0])
def test_the_target_is_reached_where_the_peak_allows(rms: float) -> None:
    levelled, gain = level(noise(), LoudnessConfig(rms=rms))
    assert rms_dbfs(levelled) == pytest.approx(rms, abs=1e-3)
    assert gain == gain_db(noise(), LoudnessConfig(rms=rms))


@pytest.mark.parametrize("peak", [-1.0, -3.0])
def test_the_peak_is_kept_where_the_target_would_pass_it(peak: float) -> None:
    levelled, _ = level(noise(crest=1000.0), LoudnessConfig(peak=peak))
    assert peak_dbfs(levelled) == pytest.approx(peak, abs=1e-3)
    assert rms_dbfs(levelled) < -16


def test_silence_is_left_alone() -> None:
    assert gain_db(Audio(np.zeros((1, 100), np.float32), 48_000), LoudnessConfig()) == 0.0
