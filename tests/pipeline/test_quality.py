"""Clean music scores well, and the more of a fault, the lower its score: each fault on its own scale."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from pipeline.audio import apply_gain
from pipeline.quality.signal import band_powers, bandwidth_hz, clipped_share, crest_db, level_dbfs, score
from pipeline.quality.stage import Anchors, Quality, QualityConfig, Rater, build
from pipeline.types import Audio

RATE = 48_000
NAMES = ["level", "clipping", "bandwidth", "noise", "dynamics"]


def _music() -> Audio:
    """Plucked chords, a bass line and drums: broadband, with rests and transients, about -18 dBFS."""
    rng = np.random.default_rng(0)
    time = np.arange(12 * RATE) / RATE
    out = np.zeros((2, time.size))
    for beat in range(23):
        at, length = beat * RATE // 2, RATE
        local = np.arange(length) / RATE
        roots = (110.0, 146.8, 98.0, 130.8)[beat // 6]
        for step, partial in [(step, partial) for step in (1, 1.25, 1.5, 2) for partial in range(1, 30)]:
            frequency = roots * step * 2 * partial
            tone = np.sin(2 * np.pi * frequency * local + rng.uniform(0, 6)) / partial**1.3
            out[:, at : at + length] += 0.08 * tone * np.exp(-(3 + partial / 3) * local)
        drum = rng.normal(size=(2, length)) * np.exp(-(25 if beat % 2 else 60) * local) * 0.35
        out[:, at : at + length] += drum[:, : out.shape[1] - at]
        out[:, at : at + length] += 0.25 * np.sin(2 * np.pi * roots / 2 * local) * np.exp(-4 * local)
    return apply_gain(Audio(out.astype(np.float32), RATE), -3)


MUSIC = _music()


@pytest.fixture(scope="module")
def rater() -> Rater:
    return build(QualityConfig())


def clipped(audio: Audio, decibel: float) -> Audio:
    """Driven `decibel` over full scale, then turned down again."""
    peak = np.max(np.abs(audio.samples))
    return apply_gain(Audio(np.clip(apply_gain(audio, decibel).samples, -peak, peak), RATE), -3)


def noisy(audio: Audio, snr: float) -> Audio:
    noise = np.random.default_rng(1).normal(size=audio.samples.shape).astype(np.float32)
    power = np.sqrt(np.mean(audio.samples**2)) * 10 ** (-snr / 20)
    return Audio(audio.samples + noise * np.float32(power), RATE)


def low_passed(audio: Audio, hertz: float) -> Audio:
    return Audio(sosfilt(butter(10, hertz, fs=RATE, output="sos"), audio.samples).astype(np.float32), RATE)


def test_clean_music_scores_well(rater: Rater) -> None:
    found = rater(MUSIC)
    assert list(found.scores) == NAMES
    assert min(found.scores.values()) > 3.5
    assert found.mean == pytest.approx(sum(found.scores.values()) / 5)


@pytest.mark.parametrize(
    ("name", "fault", "strengths"),
    [
        ("level", apply_gain, [0, -10, -15, -20, -25, -30, -40]),
        ("clipping", clipped, [0, 6, 9, 12, 16, 20, 26]),
        ("dynamics", clipped, [0, 6, 9, 12, 16, 20, 26]),
        ("bandwidth", low_passed, [20_000, 12_000, 8_000, 6_000, 4_000, 2_500]),
        ("noise", noisy, [60, 40, 30, 20, 15, 10, 5]),
    ],
)
def test_more_of_a_fault_scores_lower(
    rater: Rater, name: str, fault: Callable[[Audio, float], Audio], strengths: list[float]
) -> None:
    scores = [rater(fault(MUSIC, strength)).scores[name] for strength in strengths]
    assert all(after <= before + 0.02 for before, after in pairwise(scores))
    assert scores[-1] < 2
    assert scores[0] - scores[-1] > 2


@pytest.mark.parametrize(("fault", "strength"), [(apply_gain, -30), (clipped, 20), (low_passed, 4_000), (noisy, 10)])
def test_a_strong_fault_shows_in_the_mean(
    rater: Rater, fault: Callable[[Audio, float], Audio], strength: float
) -> None:
    assert rater(fault(MUSIC, strength)).mean < rater(MUSIC).mean - 0.3


def test_silence_scores_one_throughout(rater: Rater) -> None:
    assert rater(Audio(np.zeros((2, RATE), np.float32), RATE)) == Quality(dict.fromkeys(NAMES, 1.0), 1.0)


@given(st.floats(-200, 200), st.floats(-100, 100), st.floats(-100, 100))
def test_scores_stay_in_range_and_pass_through_their_anchors(value: float, poor: float, good: float) -> None:
    if abs(good - poor) < 1e-3:
        return
    anchors = Anchors(poor=poor, good=good)
    assert score(poor, anchors) == pytest.approx(2)
    assert score(good, anchors) == pytest.approx(4)
    assert 1 <= score(value, anchors) <= 5
    assert score(value + (good - poor), anchors) >= score(value, anchors)


def test_measurements_of_a_sine() -> None:
    sine = np.sin(2 * np.pi * 997 * np.arange(6 * RATE) / RATE).astype(np.float32)
    assert level_dbfs(sine, RATE) == pytest.approx(-3.01, abs=0.01)
    assert crest_db(sine, RATE) == pytest.approx(3.01, abs=0.01)
    assert clipped_share(sine[None]) == pytest.approx(2 / np.pi * np.arccos(0.97), abs=1e-3)


def test_pauses_do_not_lower_the_level() -> None:
    music = MUSIC.mono().samples[0]
    with_pause = np.concatenate([music, np.zeros_like(music)])
    assert level_dbfs(with_pause, RATE) == pytest.approx(level_dbfs(music, RATE), abs=0.1)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_white_noise_fills_the_band_of_its_rate(rate: int) -> None:
    noise = np.random.default_rng(0).normal(size=5 * rate).astype(np.float32) * 0.1
    width = bandwidth_hz(*band_powers(noise, rate))
    assert rate / 2 / 2 ** (1 / 6) < width <= rate / 2


@pytest.mark.parametrize("length", [1, 100, 5000])
def test_short_clips_are_rated(rater: Rater, length: int) -> None:
    found = rater(Audio(MUSIC.samples[:, RATE : RATE + length].copy(), RATE))
    assert all(1 <= value <= 5 for value in found.scores.values())
