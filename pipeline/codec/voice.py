"""A voice made of its line: an excitation that the vocoder starts from, and a log-mel whose harmonics lie on the line.

A mel leaves open where the harmonics above 2 kHz lie and how phases hang together; a pulse train on the sung line says
both. And a decoder blurs harmonics that it isn't sure of: those of the line are put back (weights/README.md).
Conventions: log-mels ``[M, 100]`` and 24 kHz samples ``[240 M]`` as in `mel`; a `Line` has one pitch a frame.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.codec.mel import BANDS, FLOOR, FRAMES_PER_CODE, HOP, SAMPLE_RATE, log_mel
from pipeline.codec.pitch import Line, standing_out

HIGHEST = 11_800.0  # Hz, of the pulses' harmonics: just below what the mel hears
BREATH = 0.1  # of noise under the pulses, as a share of their amplitude; 0.03 measured as no better
SEED = 2  # of the noise; ours
SHARE = 0.4  # of the way to the line's harmonics; more is hardly more in tune, and costs L1 (weights/README.md)
FADING = (50, 70)  # bands over which that fades out, 2 to 4 kHz; ours
HEARD = 1.0  # nats above the floor, where it reaches its strength; ours


def excitation(line: Line, breath: float = BREATH) -> Tensor:
    """Samples ``[240 M]`` of power 1: pulses where the line is sung, seeded noise elsewhere."""
    frames = np.arange(len(line.hertz)) * HOP + (HOP - 1) / 2
    samples = np.arange(len(line.hertz) * HOP)
    hertz = np.exp(np.interp(samples, frames, np.log(line.hertz)))
    strength = np.interp(samples, frames, line.strength)
    noise = np.random.default_rng(SEED).standard_normal(len(samples))
    mixed = strength * _pulses(hertz) + (1 - strength + breath * strength) * noise
    return torch.from_numpy(mixed.astype(np.float32))


def _pulses(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    """All harmonics below `HIGHEST` at one level: their sum in closed form, Dirichlet's kernel."""
    half = np.pi * np.cumsum(hertz) / SAMPLE_RATE
    harmonics = np.floor(HIGHEST / hertz)
    all_of_them = 2 * harmonics + 1
    below, at_pulse = np.sin(half), np.abs(np.sin(half)) < 1e-6
    limit = all_of_them * np.cos(all_of_them * half) * np.cos(half)  # of the ratio, where both sines vanish
    ratio = np.where(at_pulse, limit, np.sin(all_of_them * half) / np.where(at_pulse, 1.0, below))
    pulses: NDArray[np.float64] = (ratio - 1) / 2 / np.sqrt(harmonics / 2)
    return pulses


def retuned(log_mels: Tensor, line: Line, share: float = SHARE) -> Tensor:
    """The log-mels with their fine structure moved towards that of pulses on the line, where it is sung and heard."""
    certain = Line(line.hertz, np.ones_like(line.strength))
    ideal = log_mel(excitation(certain, breath=0.03), len(log_mels) // FRAMES_PER_CODE)
    clear, faded = FADING
    bands = ((faded - torch.arange(BANDS)) / (faded - clear)).clamp(0, 1)
    strength = torch.from_numpy(line.strength).float()[:, None]
    heard = ((log_mels - math.log(FLOOR)) / HEARD).clamp(0, 1)
    return log_mels + share * strength * bands * heard * ((ideal - log_mels) @ standing_out())
