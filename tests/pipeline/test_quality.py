"""Clean music scores well, and the more of a fault, the lower its score and the mean that the gate looks at."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.signal import butter, sosfilt

from pipeline.audio import apply_gain, decode, resample
from pipeline.quality.signal import clipped_share, level_dbfs, power_mean, score
from pipeline.quality.stage import Anchors, Quality, QualityConfig, Rater, build
from pipeline.selection import GateConfig, passes_gate
from pipeline.songs.faults import RECORDING_FAULTS, STATED, apply_fault
from pipeline.types import Audio

RATE = 48_000
NAMES = ["level", "clipping", "bandwidth", "noise", "hum"]
GATE = GateConfig()
DARK = butter(1, 2_500, fs=RATE, output="sos")  # drums are no white noise
SCORE_OF = {"clipping": "clipping", "noise": "noise", "hum": "hum", "low_pass": "bandwidth", "mp3": "bandwidth"}


def _music() -> Audio:
    """Plucked chords, a bass line and drums: broadband, with rests and transients, about -18 dBFS."""
    rng = np.random.default_rng(0)
    time = np.arange(8 * RATE) / RATE
    out = np.zeros((2, time.size))
    for beat in range(15):
        at, length = beat * RATE // 2, RATE
        local = np.arange(length) / RATE
        roots = (110.0, 146.8, 98.0, 130.8)[beat // 4]
        for step, partial in [(step, partial) for step in (1, 1.25, 1.5, 2) for partial in range(1, 30)]:
            frequency = roots * step * 2 * partial
            tone = np.sin(2 * np.pi * frequency * local + rng.uniform(0, 6)) / partial**1.3
            out[:, at : at + length] += 0.08 * tone * np.exp(-(3 + partial / 3) * local)
        drum = sosfilt(DARK, rng.normal(size=(2, length)) * np.exp(-(25 if beat % 2 else 60) * local) * 0.3)
        out[:, at : at + length] += drum[:, : out.shape[1] - at]
        out[:, at : at + length] += 0.25 * np.sin(2 * np.pi * roots / 2 * local) * np.exp(-4 * local)
    return apply_gain(Audio(out.astype(np.float32), RATE), -3)


MUSIC = _music()


@pytest.fixture(scope="module")
def rater() -> Rater:
    return build(QualityConfig())


def test_clean_music_scores_well(rater: Rater) -> None:
    found = rater(MUSIC)
    assert list(found.scores) == NAMES
    assert min(found.scores.values()) > 3.5
    assert min(found.scores.values()) <= found.mean <= max(found.scores.values())


@pytest.mark.parametrize("name", RECORDING_FAULTS)
def test_more_of_a_fault_scores_lower(rater: Rater, name: str) -> None:
    found = [rater(MUSIC), *(rater(apply_fault(MUSIC, name, s, 1)) for s in RECORDING_FAULTS[name])]
    for values in ([quality.scores[SCORE_OF[name]] for quality in found], [quality.mean for quality in found]):
        assert all(after <= before + 0.02 for before, after in pairwise(values))
        assert values[-1] < 2.5 < 3.5 < values[0]


@pytest.mark.parametrize("name", STATED)
def test_one_stated_fault_alone_fails_the_gate(rater: Rater, name: str) -> None:
    assert passes_gate(GATE, rater(MUSIC))
    assert not passes_gate(GATE, rater(apply_fault(MUSIC, name, STATED[name], 2)))


def test_a_quiet_file_loses_its_level_and_nothing_else(rater: Rater) -> None:
    loud, quiet = rater(MUSIC), rater(apply_gain(MUSIC, -40))
    assert quiet.scores["level"] < 2
    for name in NAMES[1:]:
        assert quiet.scores[name] == pytest.approx(loud.scores[name], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("clipping", lambda audio: apply_gain(audio, -9)),
        ("clipping", lambda audio: resample(audio, 44_100)),
        ("noise", lambda audio: resample(audio, 44_100)),
        ("hum", lambda audio: resample(audio, 44_100)),
        ("mp3", lambda audio: resample(audio, 44_100)),
    ],
)
def test_a_fault_is_still_heard_after_a_gain_or_another_rate(
    rater: Rater, name: str, spoil: Callable[[Audio], Audio]
) -> None:
    assert rater(spoil(apply_fault(MUSIC, name, STATED[name], 3))).scores[SCORE_OF[name]] < 3


def test_a_bass_that_plays_the_mains_frequency_is_no_hum(rater: Rater) -> None:
    time = np.arange(MUSIC.length) / RATE
    rests = (time % 3.2) < 1.6  # of a block of 1 s, one in ten must find it at rest
    bass = 0.2 * np.sin(2 * np.pi * 50.0 * time) * rests
    assert rater(Audio(MUSIC.samples + bass.astype(np.float32), RATE)).scores["hum"] > 4


def test_a_dull_end_costs_less_than_a_wall_at_the_same_frequency(rater: Rater) -> None:
    """12 kHz by nature is enough; cut off there, something is missing."""
    spectrum = np.fft.rfft(MUSIC.samples)
    hertz = np.fft.rfftfreq(MUSIC.length, 1 / RATE)
    wall = np.where(hertz > 11_000, 1e-5, 1.0)
    natural = 10 ** (-np.maximum(0, hertz - 3_000) / 20 / 250)
    walled, dull = (Audio(np.fft.irfft(spectrum * shape).astype(np.float32), RATE) for shape in (wall, natural))
    assert rater(walled).scores["bandwidth"] < 2.5 < rater(dull).scores["bandwidth"]


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


@given(st.lists(st.floats(1, 5), min_size=5, max_size=5), st.integers(0, 4), st.floats(1, 5))
def test_the_power_mean_is_monotone_and_between_worst_and_plain_mean(
    values: list[float], place: int, other: float
) -> None:
    mean = power_mean(values, -8.0)
    assert min(values) - 1e-9 <= mean <= sum(values) / 5 + 1e-9
    changed = [*values[:place], other, *values[place + 1 :]]
    assert (power_mean(changed, -8.0) >= mean - 1e-9) or other < values[place]
    assert power_mean([values[0]] * 5, -8.0) == pytest.approx(values[0])


def test_one_bad_score_among_good_ones_fails_the_gate() -> None:
    assert power_mean([4.5, 4.5, 4.5, 4.5, 2.0], QualityConfig().exponent) == pytest.approx(2.44, abs=0.01)
    assert power_mean([4.5, 4.5, 4.5, 4.5, 3.0], QualityConfig().exponent) == pytest.approx(3.60, abs=0.01)


def test_an_exponent_that_would_reward_the_best_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than 0"):
        QualityConfig(exponent=0.0)


def test_measurements_of_a_sine() -> None:
    sine = np.sin(2 * np.pi * 997 * np.arange(6 * RATE) / RATE).astype(np.float32)
    assert level_dbfs(sine, RATE) == pytest.approx(-3.01, abs=0.01)
    assert clipped_share(sine[None]) == pytest.approx(2 / np.pi * np.arccos(0.97) - 0.002, abs=1e-3)


def test_pauses_do_not_lower_the_level() -> None:
    music = MUSIC.mono().samples[0]
    with_pause = np.concatenate([music, np.zeros_like(music)])
    assert level_dbfs(with_pause, RATE) == pytest.approx(level_dbfs(music, RATE), abs=0.1)


@pytest.mark.parametrize("length", [1, 100, 5000])
def test_short_clips_are_rated(rater: Rater, length: int) -> None:
    found = rater(Audio(MUSIC.samples[:, RATE : RATE + length].copy(), RATE))
    assert all(1 <= value <= 5 for value in found.scores.values())


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 96_000])
def test_any_rate_is_rated(rater: Rater, rate: int) -> None:
    found = rater(resample(MUSIC, rate))
    assert all(1 <= value <= 5 for value in found.scores.values())


@pytest.mark.songs
def test_a_rendered_song_passes_and_its_faulty_copies_do_not(rater: Rater, tmp_path: Path) -> None:
    from pipeline.songs.render import render_song

    audio = decode(str(render_song(77, tmp_path, (40.0, 60.0)).mix))
    assert passes_gate(GATE, rater(audio))
    for name, strength in STATED.items():
        assert not passes_gate(GATE, rater(apply_fault(audio, name, strength, 4))), name
