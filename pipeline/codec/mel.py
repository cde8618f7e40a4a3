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

SAMPLE_RATE = 24_000  # Hz
N_FFT = 1024  # samples; same
HOP = 240  # samples: 100 frames a second; same
BANDS = 100  # HTK mel triangles; same
LOWEST, HIGHEST = 20.0, 12_000.0  # Hz; same
FLOOR = 0.01  # mel magnitude; a full-scale sine has about 256 at its bin; same
FRAMES_PER_CODE = 4
ROWS = 512  # frames analysed at a time: 2 MB stay in the cache
SAMPLES_PER_CODE = FRAMES_PER_CODE * HOP
KNEE = 3.0  # how fast the floor is forgotten above it; ours
INVERSION_STEPS = 10  # 20 measured as 0.002 nats better, and 20 % slower (weights/README.md)
SMALLEST = 1e-6  # mel magnitude, 80 dB below the floor: keeps divisions finite
LARGEST_STEP = 8.0  # ratio, 18 dB: a bin that is silent by chance isn't thrown up; ours


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
    blocks = [
        absolute(torch.fft.rfft(block * torch.hann_window(N_FFT))) @ filters().T for block in torch.split(frames, ROWS)
    ]
    return torch.cat(blocks)


def absolute(spectrum: Tensor) -> Tensor:
    """Magnitudes; five times as fast as `Tensor.abs`, which guards against overflow."""
    parts = torch.view_as_real(spectrum)
    real, imaginary = parts[..., 0], parts[..., 1]
    return real.square().addcmul_(imaginary, imaginary).sqrt_()


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


def heard_mel(log_mels: Tensor) -> Tensor:
    """Mel magnitude of log-mels, without the floor: silence is 0, twice the floor is kept to 6 %.

    Taking `FLOOR` off everywhere would move a band at twice the floor by 6 dB.
    """
    above = (log_mels - math.log(FLOOR)).clamp_min(0)
    return FLOOR * (above.exp() - (-KNEE * above).exp())


def linear_magnitude(mel: Tensor, shape: Tensor | None = None) -> Tensor:
    """Magnitude ``[M, 513]`` whose mel is nearest to `mel` ``[M, 100]`` in the Kullback-Leibler sense.

    By multiplicative steps (Lee and Seung 2001) from the pseudo-inverse; they weigh ratios, hence quiet bands count as
    loud ones do, where least squares hear the loud alone. Frames of `shape` ``[M, 513]`` that aren't all 0 start from
    it instead: what bands leave open, its harmonics, stays.
    """
    start = (mel @ _inverse_filters().T).clamp_min(0)
    magnitude = torch.maximum(start, (mel @ filters()) * 0.1)  # a zero would stay one
    if shape is not None:
        magnitude = torch.where(shape.any(dim=1, keepdim=True), shape, magnitude)
    for _ in range(INVERSION_STEPS):
        magnitude = mel_corrected(magnitude, mel)
    return magnitude


def mel_corrected(magnitude: Tensor, mel: Tensor) -> Tensor:
    """One such step: magnitudes ``[M, 513]`` moved, in ratio, towards those with the mel ``[M, 100]``."""
    ratio = mel / (magnitude @ filters().T).clamp_min(SMALLEST)
    return magnitude * (ratio.clamp_max(LARGEST_STEP) @ _unit_columns())


@cache
def _unit_columns() -> Tensor:
    """The filters ``[100, 513]``, scaled so that what reaches each bin sums to 1."""
    return filters() / filters().sum(dim=0).clamp_min(1e-9)


@cache
def _inverse_filters() -> Tensor:
    inverse: Tensor = torch.linalg.pinv(filters().double())
    return inverse.float()


def _mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)
