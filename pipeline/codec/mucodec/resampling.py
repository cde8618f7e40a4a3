"""48 -> 24 kHz as torchaudio's `Resample` does it at its defaults: the encoder was trained on its very low pass.

Conventions: a sinc of 6 zero crossings under a squared cosine, cut off at 0.99 of half the lower rate; the kernel is
float32 whatever the audio is, the ends of the audio are followed by silence.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

FACTOR = 2  # samples in for one out
CROSSINGS = 6  # lowpass_filter_width
ROLLOFF = 0.99
HALF = math.ceil(CROSSINGS * FACTOR / ROLLOFF)  # samples on either side


def halved(audio: Tensor) -> Tensor:
    """``[B, samples]`` -> ``[B, ceil(samples / 2)]``."""
    padded = F.pad(audio[:, None], (HALF, HALF + FACTOR))
    kernel = _kernel().to(audio)
    return F.conv1d(padded, kernel, stride=FACTOR)[:, 0, : -(-audio.shape[-1] // FACTOR)]


@lru_cache(maxsize=1)
def _kernel() -> Tensor:
    taps = torch.arange(-HALF, HALF + FACTOR, dtype=torch.float64, device="cpu") / FACTOR
    time = (taps * ROLLOFF).clamp(-CROSSINGS, CROSSINGS)
    window = torch.cos(time * math.pi / CROSSINGS / 2) ** 2
    return (torch.sinc(time) * window * (ROLLOFF / FACTOR)).float()[None, None]
