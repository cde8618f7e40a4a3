"""The sung line: pitch of harmonic tones, steadiness, and that noise and silence have none."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.codec.mel import FLOOR, log_mel
from pipeline.codec.pitch import sung_line, tone


def harmonic(hertz: NDArray[np.float64], level: float = 0.1) -> torch.Tensor:
    """Partials that fall by 6 dB an octave on a pitch in Hz for each sample."""
    phase = 2 * np.pi * np.cumsum(hertz) / 24_000
    wave = np.sum([np.cos(k * phase + k * k) / k for k in range(1, 20)], axis=0)
    return torch.from_numpy((level * wave).astype(np.float32))


@pytest.mark.parametrize("hertz", [98.0, 147.3, 220.0, 415.0, 740.0])
def test_a_steady_tone_is_found_within_a_quarter_of_a_semitone(hertz: float) -> None:
    line = sung_line(log_mel(harmonic(np.full(24_000, hertz)), 25))
    cents = 1200 * np.abs(np.log2(line.hertz[4:-4] / hertz))
    assert float(cents.max()) < 25
    assert float(line.strength[4:-4].min()) == 1


def test_a_glide_is_followed() -> None:
    time = np.arange(48_000) / 24_000
    hertz = 200 * 2 ** (time / 4)
    line = sung_line(log_mel(harmonic(hertz), 50))
    cents = 1200 * np.abs(np.log2(line.hertz / hertz[120::240]))
    assert float(np.mean(cents[4:-4] < 40)) > 0.95


def test_neither_noise_nor_silence_is_sung() -> None:
    noise = 0.1 * torch.randn(48_000, generator=torch.Generator().manual_seed(0))
    assert float(np.mean(sung_line(log_mel(noise, 50)).strength)) < 0.1
    assert not sung_line(torch.full((100, 100), math.log(FLOOR))).strength.any()


def test_one_frame_has_a_line_too() -> None:
    assert sung_line(log_mel(harmonic(np.full(960, 220.0)), 1)[:1]).hertz.shape == (1,)


def test_the_tone_is_deaf_to_level() -> None:
    sound = log_mel(harmonic(np.full(24_000, 220.0), 0.2), 25)[8:-8]
    quieter = sound - 1.0
    assert torch.allclose(tone(sound), tone(quieter), atol=1e-5)
    assert float(tone(sound).norm(dim=1).max()) < 1


def test_a_weakened_line_keeps_its_pitch() -> None:
    line = sung_line(log_mel(harmonic(np.full(9600, 220.0)), 10))
    weaker = line.weakened(np.full(40, 0.25))
    assert np.array_equal(weaker.hertz, line.hertz)
    assert np.allclose(weaker.strength, line.strength / 4)
