"""Mel analysis, the way back, and the phase reconstruction."""

import math

import numpy as np
import pytest
import torch

from pipeline.codec.mel import FLOOR, filters, heard_mel, linear_magnitude, log_mel, mel_of, to_24k
from pipeline.codec.vocoder import OVERLAP, synthesise
from pipeline.types import Audio


def tone(frequency: float, seconds: float) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(round(24_000 * seconds)) / 24_000)


def test_each_filter_sums_to_one_and_peaks_above_the_one_before() -> None:
    assert torch.allclose(filters().sum(dim=1), torch.ones(100))
    centres = (filters() * torch.arange(513)).sum(dim=1)
    assert bool((centres.diff() > 0).all())


def test_frames_lie_evenly_inside_their_code() -> None:
    """A click in the middle of frame m's hop (sample 240 m + 120) is strongest in frame m."""
    for frame in (0, 5, 39):
        samples = torch.zeros(40 * 240)
        samples[240 * frame + 120] = 1.0
        assert int(mel_of(samples).sum(dim=1).argmax()) == frame


def test_a_full_scale_sine_reaches_half_the_window_sum() -> None:
    peak = mel_of(tone(3000, 1))[50].max()
    assert 256 * 0.02 < float(peak) < 256  # spread by a filter that sums to 1: below the bin's own 256


def test_silence_is_the_floor_and_missing_audio_is_silence() -> None:
    assert torch.equal(log_mel(torch.zeros(0), 3), torch.full((12, 100), math.log(FLOOR)))
    whole = torch.cat([tone(440, 0.1), torch.zeros(480)])
    assert torch.equal(log_mel(tone(440, 0.1), 3), log_mel(whole, 3))


def test_24k_is_mono_of_half_the_length() -> None:
    stereo = np.stack([np.ones(4800), np.zeros(4800)]).astype(np.float32)
    samples = to_24k(Audio(stereo, 48_000))
    assert samples.shape == (2400,)
    assert samples[1200] == pytest.approx(0.5, abs=1e-4)


def test_the_floor_is_silence_and_forgotten_above_it() -> None:
    above = torch.tensor([0.5, 1.0, 2.0, 4.0, 100.0]) * FLOOR
    assert torch.allclose(heard_mel(above.log()) / FLOOR, torch.tensor([0.0, 0.0, 1.875, 3.984, 100.0]), atol=1e-3)


def test_linear_magnitude_has_the_mel_it_was_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = log_mel(torch.randn(24_000, generator=generator) * 0.1 + tone(300, 1), 25)
    magnitude = linear_magnitude(heard_mel(wanted))
    assert bool((magnitude >= 0).all())
    error = ((magnitude @ filters().T).clamp_min(FLOOR).log() - wanted).abs().mean()
    assert float(error) < 0.05


def test_the_vocoder_keeps_mel_and_pitch() -> None:
    wanted = log_mel(0.3 * tone(440, 2) + 0.15 * tone(880, 2), 50)
    samples = synthesise(wanted)
    assert samples.shape == (48_000,)
    spectrum = torch.fft.rfft(samples[12_000:36_000] * torch.hann_window(24_000)).abs()
    assert int(spectrum.argmax()) == pytest.approx(440, abs=8)  # Hz, at 1 Hz a bin
    assert float((log_mel(samples, 50) - wanted).abs().mean()) < 0.12
    assert torch.equal(samples, synthesise(wanted))


def test_long_audio_is_joined_without_a_gap_or_a_bump() -> None:
    generator = torch.Generator().manual_seed(0)
    block = 400
    frames = block + 2 * OVERLAP
    wanted = log_mel(0.1 * torch.randn(240, generator=generator), 1)[:1].expand(frames, 100)
    samples = synthesise(wanted, iterations=2, block=block)
    assert samples.shape == (frames * 240,)
    seam = slice((block - OVERLAP) * 240, block * 240)
    ratio = samples[seam].square().mean() / samples.square().mean()
    assert 0.5 < float(ratio) < 2.0


def test_floor_is_inaudible() -> None:
    samples = synthesise(torch.full((100, 100), math.log(FLOOR)))
    assert float(samples.abs().max()) < 1e-4
