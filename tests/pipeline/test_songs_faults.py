"""Recording faults: each does what its unit says, more of it differs more, and none changes length or rate."""

import numpy as np
import pytest

from pipeline.songs.faults import RECORDING_FAULTS, STATED, apply_fault
from pipeline.types import Audio

RATE = 48_000


@pytest.fixture(scope="module")
def music():
    time = np.arange(4 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * f * time) / n for n, f in enumerate((110, 220, 331, 1760, 5000, 9000), 1))
    beat = np.exp(-8 * (time % 0.5))
    noise = np.random.default_rng(0).normal(size=(2, len(time)))
    return Audio((0.15 * beat * (chord + noise)).astype(np.float32), RATE)


def _error(audio, name, strength):
    return float(np.sqrt(np.mean((apply_fault(audio, name, strength, 1).samples - audio.samples) ** 2)))


@pytest.mark.parametrize("name", RECORDING_FAULTS)
def test_stronger_faults_differ_more_and_keep_shape_rate_and_scale(music, name):
    errors = [_error(music, name, strength) for strength in RECORDING_FAULTS[name]]
    assert errors == sorted(errors)
    assert errors[0] > 0
    assert STATED[name] in RECORDING_FAULTS[name]
    faulty = apply_fault(music, name, STATED[name], 1)
    assert (faulty.samples.shape, faulty.sample_rate) == (music.samples.shape, RATE)
    assert np.abs(faulty.samples).max() <= 1.0


@pytest.mark.parametrize("name", RECORDING_FAULTS)
def test_a_seed_is_a_fault_and_silence_stays_finite(music, name):
    first, again = (apply_fault(music, name, STATED[name], 5).samples for _ in range(2))
    assert np.array_equal(first, again)
    silence = Audio(np.zeros((1, RATE), np.float32), RATE)
    assert np.isfinite(apply_fault(silence, name, STATED[name], 5).samples).all()


@pytest.mark.parametrize("name", ["noise", "hum"])
def test_noise_and_hum_lie_as_far_below_the_programme_as_stated(music, name):
    quiet = Audio(music.samples * np.float32(0.5), RATE)
    for strength in RECORDING_FAULTS[name]:
        ratio = np.sqrt(np.mean(quiet.samples**2)) / _error(quiet, name, strength)
        assert 20 * np.log10(ratio) == pytest.approx(strength, abs=0.05)


def test_clipping_flattens_at_the_peak_and_low_pass_removes_what_is_above(music):
    peak = np.abs(music.samples).max()
    clipped = apply_fault(music, "clipping", 12.0, 0).samples
    assert np.abs(clipped).max() == peak
    assert np.mean(np.abs(clipped) == peak) > 1e-3
    spectrum = np.abs(np.fft.rfft(apply_fault(music, "low_pass", 5000.0, 0).samples[0])) ** 2
    hertz = np.fft.rfftfreq(4 * RATE, 1 / RATE)
    assert spectrum[hertz > 10_000].sum() < 1e-4 * spectrum.sum()


def test_unknown_faults_and_rates_are_refused(music):
    with pytest.raises(ValueError, match=r"no recording fault is called 'wow'; there are clipping"):
        apply_fault(music, "wow", 1.0, 0)
    with pytest.raises(ValueError, match="22050: resample first"):
        apply_fault(Audio(np.zeros((1, 22_050), np.float32), 22_050), "mp3", 64.0, 0)
