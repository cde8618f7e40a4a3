"""Log-mel frames of 24 kHz audio, and mel back to a linear magnitude: the picture that the embedded codec codes.

Conventions: mono float32 at 24 kHz; frame m is centred on sample ``240 m + 120``, so the four frames of one code lie
evenly inside its 960 samples; a log-mel is ``ln(max(mel, 0.01))`` of the magnitude spectrum; `N` samples,
`M` mel frames.
"""

import math
from functools import cache

import numpy as np
import soxr
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.types import Audio

SAMPLE_RATE = 24_000  # Hz; notes/codec.md section 2
N_FFT = 1024  # samples; same
HOP = 240  # samples: 100 frames a second; same
BANDS = 100  # HTK mel triangles; same
LOWEST, HIGHEST = 20.0, 12_000.0  # Hz; same
FLOOR = 0.01  # mel magnitude; a full-scale sine has about 256 at its bin; same
FRAMES_PER_CODE = 4
SAMPLES_PER_CODE = FRAMES_PER_CODE * HOP
NNLS_STEPS = 20  # multiplicative updates; 60 is measured as no better (notes/codec.md 2.1)


def to_24k(audio: Audio) -> NDArray[np.float32]:
    """Mono samples ``[N]`` at 24 kHz. Filtered in float64: where a file is cut then can't change a code by rounding."""
    mono = audio.samples.mean(axis=0, dtype=np.float64)
    if audio.sample_rate != SAMPLE_RATE and mono.size:
        mono = soxr.resample(mono, audio.sample_rate, SAMPLE_RATE, quality="HQ")
    samples: NDArray[np.float32] = mono.astype(np.float32)
    return samples


def log_mel(samples: Tensor, codes: int) -> Tensor:
    """Log-mel ``[4 * codes, 100]`` of samples ``[N]``, which are cut or padded with silence to that length."""
    wanted = codes * SAMPLES_PER_CODE
    samples = F.pad(samples[:wanted], (0, max(0, wanted - samples.numel())))
    return mel_of(samples).clamp_min(FLOOR).log()


def mel_of(samples: Tensor) -> Tensor:
    """Mel magnitude ``[M, 100]`` of samples ``[240 M]``, silence beyond both ends."""
    side = (N_FFT - HOP) // 2
    frames = F.pad(samples, (side, side)).unfold(0, N_FFT, HOP)
    magnitude = torch.fft.rfft(frames * torch.hann_window(N_FFT)).abs()
    mel: Tensor = magnitude @ filters().T
    return mel


@cache
def filters() -> Tensor:
    """Triangles ``[100, 513]`` on the HTK mel scale, each summing to 1."""
    edges = torch.linspace(_mel(LOWEST), _mel(HIGHEST), BANDS + 2, dtype=torch.float64)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = torch.arange(N_FFT // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / N_FFT
    low, centre, high = (hertz[i : i + BANDS, None] for i in range(3))
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return (triangles / triangles.sum(dim=1, keepdim=True)).float()


def linear_magnitude(log_mels: Tensor) -> Tensor:
    """Magnitude ``[M, 513]`` whose mel is nearest to the given one: non-negative least squares by multiplicative steps.

    A band at the floor is silence: `FLOOR` is taken off, which moves a band 20 dB above the floor by 1 dB.
    """
    mel = (log_mels.exp() - FLOOR).clamp_min(0)
    start = (mel @ _inverse_filters().T).clamp_min(0)
    magnitude = torch.maximum(start, (mel @ filters()) * 0.1)  # a zero would stay one
    target = mel @ filters()
    for _ in range(NNLS_STEPS):
        magnitude = magnitude * target / ((magnitude @ filters().T) @ filters()).clamp_min(1e-9)
    return magnitude


@cache
def _inverse_filters() -> Tensor:
    inverse: Tensor = torch.linalg.pinv(filters().double())
    return inverse.float()


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
