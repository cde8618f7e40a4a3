"""The excitation and the retuning: what stands on the line, and what is left alone."""

import math

import numpy as np
import torch

from pipeline.codec.mel import FLOOR, log_mel
from pipeline.codec.pitch import Line, sung_line, tone
from pipeline.codec.vocoder import synthesise
from pipeline.codec.voice import excitation, retuned


def line_at(hertz: float, frames: int, strength: float) -> Line:
    return Line(np.full(frames, hertz), np.full(frames, strength))


def test_pulses_stand_on_the_line_at_power_one() -> None:
    sound = excitation(line_at(200.0, 100, 1.0), breath=0.0)
    assert sound.shape == (24_000,)
    assert abs(float(sound.square().mean()) - 1) < 0.05
    spectrum = torch.fft.rfft(sound.double()).abs()
    harmonics = spectrum[200:11_801:200]
    assert float(harmonics.square().sum() / spectrum.square().sum()) > 0.99
    assert float(harmonics.std() / harmonics.mean()) < 0.1


def test_what_is_not_sung_is_seeded_noise() -> None:
    sound = excitation(line_at(200.0, 100, 0.0))
    assert abs(float(sound.square().mean()) - 1) < 0.05
    assert torch.equal(sound, excitation(line_at(300.0, 100, 0.0)))


def test_retuning_leaves_alone_what_is_not_sung_not_low_or_not_heard() -> None:
    generator = torch.Generator().manual_seed(0)
    mel = 2 * torch.rand((40, 100), generator=generator)
    assert torch.equal(retuned(mel, line_at(200.0, 40, 0.0)), mel)
    assert torch.equal(retuned(mel, line_at(200.0, 40, 1.0))[:, 70:], mel[:, 70:])
    silence = torch.full((40, 100), math.log(FLOOR))
    assert torch.equal(retuned(silence, line_at(200.0, 40, 1.0)), silence)


def test_retuning_puts_blurred_harmonics_back() -> None:
    sound = 0.05 * excitation(line_at(220.0, 100, 1.0))
    true = log_mel(sound, 25)
    kernel = torch.ones(1, 1, 5) / 5
    blurred = torch.nn.functional.conv1d(torch.nn.functional.pad(true[:, None], (2, 2), mode="replicate"), kernel)[:, 0]
    put_back = retuned(blurred, line_at(220.0, 100, 1.0))
    before, after = ((tone(mel) - tone(true)).square().sum(dim=1).mean() for mel in (blurred, put_back))
    assert float(after) < 0.5 * float(before)


def test_the_vocoder_sings_on_the_line_it_is_given() -> None:
    """White noise as a mel says nothing of harmonics: they come from the line."""
    mel = log_mel(0.1 * torch.randn(48_000, generator=torch.Generator().manual_seed(0)), 50)
    mean = mel.mean(dim=0).expand(200, 100)
    sung, spoken = (synthesise(mean, line=line_at(400.0, 200, strength)) for strength in (1.0, 0.0))
    strengths = [float(sung_line(log_mel(wave, 50)).strength.mean()) for wave in (sung, spoken)]
    spectra = [
        torch.fft.rfft(wave[12_000:36_000] * torch.hann_window(24_000)).abs()[4000:8000] for wave in (sung, spoken)
    ]
    on_line = [float(s[::400].mean() / s.mean()) for s in spectra]
    assert on_line[0] > 3 * on_line[1]
    assert strengths[1] < 0.2
