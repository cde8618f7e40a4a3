"""Levels, channels and resampling of sound in memory."""

import math

import numpy as np
import pytest
from test_audio import sine

from pipeline.audio import (
    FLOOR_DBFS,
    apply_gain,
    as_stereo,
    loudness_gain_db,
    peak_dbfs,
    resample,
    rms_dbfs,
)
from pipeline.types import Audio

RATE = 48_000


def test_as_stereo() -> None:
    stereo = sine()
    assert as_stereo(stereo) is stereo
    np.testing.assert_array_equal(as_stereo(stereo.mono()).samples[1], stereo.mono().samples[0])
    with pytest.raises(ValueError, match="3 channels"):
        as_stereo(Audio(np.zeros((3, 10), np.float32), RATE))


def test_levels_of_a_full_scale_sine() -> None:
    time = np.arange(RATE) / RATE
    full = Audio(np.sin(2 * np.pi * 1000 * time, dtype=np.float64).astype(np.float32)[None], RATE)
    assert rms_dbfs(full) == pytest.approx(-3.0103, abs=1e-3)
    assert peak_dbfs(full) == pytest.approx(0.0, abs=1e-3)
    assert rms_dbfs(apply_gain(full, -20)) == pytest.approx(-23.0103, abs=1e-3)


def test_levels_of_silence_have_a_floor() -> None:
    for samples in (np.zeros((1, 100), np.float32), np.zeros((2, 0), np.float32)):
        silence = Audio(samples, RATE)
        assert rms_dbfs(silence) == peak_dbfs(silence) == FLOOR_DBFS
        assert loudness_gain_db(silence) == 0.0


def test_loudness_reaches_the_level_unless_the_peak_forbids() -> None:
    steady = sine(amplitude=0.01)
    assert rms_dbfs(apply_gain(steady, loudness_gain_db(steady))) == pytest.approx(-16, abs=1e-3)
    spiky = Audio(np.zeros((1, RATE), np.float32), RATE)
    spiky.samples[0, 100] = 0.1
    assert peak_dbfs(apply_gain(spiky, loudness_gain_db(spiky))) == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 96_000])
def test_resampling_keeps_duration_and_tone(rate: int) -> None:
    audio = resample(sine(1.0, frequency=1000), rate)
    assert (audio.sample_rate, audio.length) == (rate, rate)
    expected = sine(1.0, frequency=1000, rate=rate).samples
    inner = slice(rate // 10, -rate // 10)
    assert np.max(np.abs(audio.samples[:, inner] - expected[:, inner])) < 1e-3
    assert resample(audio, rate) is audio


@pytest.mark.parametrize("length", [1, 7, 1001])
def test_resampled_length_is_the_nearest(length: int) -> None:
    audio = Audio(np.ones((1, length), np.float32), 44_100)
    assert resample(audio, 48_000).length == math.floor(length * 48_000 / 44_100 + 0.5)
