"""What each measurement reads on signals whose answer is known."""

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from pipeline.quality.hum import hum_db
from pipeline.quality.spectrum import analyse, bandwidth, noise_db

RATE = 48_000
Wave = np.typing.NDArray[np.float32]


def _bursts(seconds: int = 20, rate: int = RATE) -> Wave:
    """Broadband bursts with silence between them: no noise floor at all."""
    time = np.arange(seconds * rate) / rate
    noise = np.random.default_rng(3).normal(size=time.size)
    return (noise * 0.2 * np.exp(-30 * (time % 0.5))).astype(np.float32)


def _rms(x: np.typing.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(x**2)))


@pytest.mark.parametrize("snr", [20.0, 10.0, 5.0])
def test_white_noise_under_bursts_is_read_at_its_level(snr: float) -> None:
    """2 of 3 parts of it lie above 8 kHz; it counts by its share of the bands' means, here its share of everything."""
    clean = _bursts()
    noise = np.random.default_rng(4).normal(size=clean.size).astype(np.float32)
    noisy = clean + noise * np.float32(_rms(clean) * 10 ** (-snr / 20) / _rms(noise))
    share = 1 / (1 + 10 ** (snr / 10))
    expected = 10 * np.log10(share**2 * 2 / 3)
    assert noise_db(analyse(noisy, RATE)) == pytest.approx(expected, abs=3)
    assert noise_db(analyse(clean, RATE)) < expected - 20


def test_steady_noise_alone_is_all_noise() -> None:
    noise = np.random.default_rng(5).normal(size=20 * RATE).astype(np.float32)
    assert -6 < noise_db(analyse(noise, RATE)) <= 0


def test_a_gain_changes_neither_noise_nor_bandwidth_nor_hum() -> None:
    wave = _bursts() + 0.001 * np.random.default_rng(6).normal(size=20 * RATE).astype(np.float32)
    soft = wave * np.float32(0.01)
    assert noise_db(analyse(wave, RATE)) == pytest.approx(noise_db(analyse(soft, RATE)), abs=0.01)
    assert bandwidth(analyse(wave, RATE)) == bandwidth(analyse(soft, RATE))
    assert hum_db(wave, RATE) == pytest.approx(hum_db(soft, RATE), abs=0.01)


@pytest.mark.parametrize("cut", [5_000.0, 8_000.0, 11_000.0, 15_000.0])
def test_a_wall_is_found_where_it_stands(cut: float) -> None:
    wave = _bursts()
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(wave.size, 1 / RATE) > cut] *= 1e-5
    found = bandwidth(analyse(np.fft.irfft(spectrum).astype(np.float32), RATE))
    assert found.wall
    assert found.hertz == pytest.approx(cut, abs=600)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_a_filter_as_instruments_and_desks_have_it_is_no_wall(order: int) -> None:
    found = bandwidth(analyse(sosfilt(butter(order, 6_000, fs=RATE, output="sos"), _bursts()).astype(np.float32), RATE))
    assert not found.wall
    assert found.hertz > 12_000


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_bursts_fill_the_band_of_their_rate(rate: int) -> None:
    width = bandwidth(analyse(_bursts(rate=rate), rate)).hertz
    assert rate / 2 / 2 ** (1 / 6) < width <= rate / 2


def test_noise_does_not_count_as_bandwidth() -> None:
    low = sosfilt(butter(12, 4_000, fs=RATE, output="sos"), _bursts()).astype(np.float32)
    noisy = low + np.random.default_rng(7).normal(size=low.size).astype(np.float32) * np.float32(0.1 * _rms(low))
    assert bandwidth(analyse(noisy, RATE)).hertz <= bandwidth(analyse(low, RATE)).hertz


@pytest.mark.parametrize("mains", [49.9, 50.0, 60.0, 60.1])
@pytest.mark.parametrize("below", [10.0, 20.0, 30.0])
def test_hum_is_read_at_its_level(mains: float, below: float) -> None:
    wave = sosfilt(butter(8, 1_000, "highpass", fs=RATE, output="sos"), _bursts()).astype(np.float32)
    time = np.arange(wave.size) / RATE
    hum = np.sum([np.sin(2 * np.pi * mains * n * time + n) for n in (1, 2, 3)], axis=0)
    level = _rms(wave) * 10 ** (-below / 20)
    told = hum_db(wave + (hum * level / _rms(hum)).astype(np.float32), RATE)
    assert told == pytest.approx(-below, abs=1.5)


@pytest.mark.parametrize("hertz", [45.0, 50.0, 55.0, 60.0, 73.4, 110.0, 120.0])
def test_a_note_held_throughout_is_no_hum_even_at_a_mains_frequency(hertz: float) -> None:
    wave = _bursts()
    note = 0.05 * np.sin(2 * np.pi * hertz * np.arange(wave.size) / RATE)
    assert hum_db(wave + note.astype(np.float32), RATE) < -50


def test_a_file_too_short_to_tell_hum_from_a_note_has_none() -> None:
    time = np.arange(2 * RATE) / RATE
    assert hum_db(np.sin(2 * np.pi * 50 * time).astype(np.float32), RATE) == -120
