"""HiFi-GAN at 48 kHz, as AudioLDM ships it: log-mel spectrogram -> sound.

Conventions: names of parameters are the published ones below ``first_stage_model.vocoder.``, weight norm already
removed; spectrograms are ``[B, bands, frames]`` at 100 Hz, sound ``[B, samples]``, full scale +-1.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.codec.mucodec.windows import crossed

SLOPE = 0.1  # of the leaky rectifiers but the last, which has torch's 0.01
DILATIONS = (1, 3, 5)
CHUNK, SHIFT = 1024, 256  # frames at once, and from one chunk to the next; vocoder_chunk_infer


@dataclass(frozen=True, slots=True)
class VocoderShape:
    """Sizes; the defaults are those of the published weights: 480 samples a frame."""

    bands: int = 256
    channels: int = 1536
    rates: tuple[int, ...] = (6, 5, 4, 2, 2)
    widths: tuple[int, ...] = (12, 10, 8, 4, 4)  # taps of the transposed convolutions
    kernels: tuple[int, ...] = (3, 7, 11, 15)  # taps of the residual blocks

    @property
    def samples_per_frame(self) -> int:
        product = 1
        for rate in self.rates:
            product *= rate
        return product


class Residual(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.convs1, self.convs2 = (
            nn.ModuleList(
                nn.Conv1d(channels, channels, kernel, dilation=d, padding=(kernel - 1) * d // 2) for d in dilations
            )
            for dilations in (DILATIONS, (1,) * len(DILATIONS))
        )

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = second(F.leaky_relu(first(F.leaky_relu(x, SLOPE)), SLOPE)) + x
        return x


class Vocoder(nn.Module):
    def __init__(self, shape: VocoderShape | None = None) -> None:
        super().__init__()
        self.shape = shape or VocoderShape()
        channels = [self.shape.channels // 2**n for n in range(len(self.shape.rates) + 1)]
        self.conv_pre = nn.Conv1d(self.shape.bands, channels[0], 7, padding=3)
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(channels[n], channels[n + 1], width, rate, padding=(width - rate) // 2)
            for n, (rate, width) in enumerate(zip(self.shape.rates, self.shape.widths, strict=True))
        )
        self.resblocks = nn.ModuleList(
            Residual(width, kernel) for width in channels[1:] for kernel in self.shape.kernels
        )
        self.conv_post = nn.Conv1d(channels[-1], 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        """``[B, bands, frames]`` -> ``[B, samples]``: ``frames * 480`` and, by odd paddings, a few more."""
        x, kernels = self.conv_pre(mel), len(self.shape.kernels)
        for n, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            total = self.resblocks[n * kernels](x)
            for m in range(1, kernels):
                total = total + self.resblocks[n * kernels + m](x)
            x = total / kernels
        return torch.tanh(self.conv_post(F.leaky_relu(x)))[:, 0]


def synthesise(vocoder: Vocoder, mel: Tensor) -> Tensor:
    """``[B, bands, frames]`` -> ``[B, samples]`` in chunks of 1024 frames every 256, each faded into the next.

    As released; at most 1024 frames are one chunk. Whole chunks are exact: ``frames * 480`` samples where frames is
    1024 and a multiple of 256.
    """
    starts = range(0, max(1, mel.shape[2] - CHUNK + SHIFT), SHIFT)
    parts: list[Tensor] = []
    length = 0
    for start in starts:
        sound = vocoder(mel[:, :, start : start + CHUNK])
        length = length or sound.shape[-1] // CHUNK * CHUNK
        parts.append(sound[:, :length])
    return crossed(parts, int(float(length) * (CHUNK - SHIFT) / CHUNK))
