"""MuQ's front end: log-mel power in dB, as torchaudio's `MelSpectrogram` and `AmplitudeToDB` give it at their defaults.

Conventions: audio is mono at 24 kHz, full scale +-1; always float32 inside, as in the released code, whatever precision
the network runs in (window and filters are computed in torch's default one before, as torchaudio does). Frames are
centred every 10 ms; the one on the end of the audio is dropped: ``samples // 240``.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

SAMPLE_RATE = 24_000  # Hz; this and the next three: MuQ's modules/features.py
N_FFT = 2048  # samples
HOP = 240  # samples
BANDS = 128
AMIN = 1e-10  # power, -100 dB; AmplitudeToDB's default
LEAST = N_FFT // 2 + 1  # samples: reflection at the edges needs them
MEAN, DEVIATION = 6.768444971712967, 18.417922652295623  # dB over the Million Song Dataset; MuQ's msd_stats


def log_mel(audio: Tensor) -> Tensor:
    """``[B, samples]`` -> ``[B, 128, samples // 240]`` dB, float32. `ValueError` below `LEAST` samples."""
    if audio.shape[-1] < LEAST:
        raise ValueError(f"MuQ needs at least {LEAST} samples at {SAMPLE_RATE} Hz, got {audio.shape[-1]}")
    window = torch.hann_window(N_FFT, device=audio.device).float()
    spectrum = torch.stft(audio.float(), N_FFT, HOP, N_FFT, window, center=True, return_complex=True)
    power = spectrum.abs().pow(2.0)
    mel = torch.matmul(power.transpose(-1, -2), filters().to(audio.device)).transpose(-1, -2)
    return (10.0 * torch.log10(mel.clamp(min=AMIN)))[..., :-1]


def normalised(audio: Tensor) -> Tensor:
    """The log-mel spectrogram on the scale that the network was trained on."""
    return (log_mel(audio) - MEAN) / DEVIATION


def filters() -> Tensor:
    """``[1025, 128]``: triangles of height 1 between points equally spaced on the HTK mel scale, 0 to 12 kHz."""
    return _filters(torch.get_default_dtype())


@lru_cache(maxsize=2)
def _filters(precision: torch.dtype) -> Tensor:
    hertz = torch.linspace(0, SAMPLE_RATE // 2, N_FFT // 2 + 1, dtype=precision, device="cpu")
    top = 2595.0 * math.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (torch.linspace(0.0, top, BANDS + 2, dtype=precision, device="cpu") / 2595.0) - 1.0)
    distance = edges[None] - hertz[:, None]
    width = edges.diff()
    rising, falling = -distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]
    return torch.minimum(rising, falling).clamp(min=0).float()
