"""Band-split RNN (Luo and Yu 2023): a spectrogram in bands, recurrent layers along time and across bands, a mask.

Conventions: spectrograms are complex at 44.1 kHz, 2048 points every 512 samples; real and imaginary parts of both
channels are the four features of a bin. Names of parameters are those of the public checkpoint as far as we know them
(`weights`). Its normalisations run over all frames of a segment too; then a segment has exactly that many.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

RATE = 44_100  # Hz
N_FFT, HOP = 2048, 512  # samples; paper, section IV
BANDS = ((1000, 100), (4000, 250), (8000, 500), (16_000, 1000), (20_000, 2000))  # Hz: up to, wide; V7 of table I
PARTS = 4  # real and imaginary of left and right


@dataclass(frozen=True, slots=True)
class Shape:
    """The paper's sizes for vocals; smaller in tests."""

    width: int = 128  # N
    hidden: int = 256  # of an LSTM, each direction
    layers: int = 12
    mask: int = 512  # hidden numbers of the mask's layers
    frames: int = 0  # that a normalisation runs over; 0 = each frame alone


def edges() -> list[tuple[int, int]]:
    """``[first, last)`` bins of every band; they tile the 1025 bins, 41 bands."""
    tops, last = [], 0.0
    for upper, wide in BANDS:
        while last < upper:
            last += wide
            tops.append(round(last / (RATE / N_FFT)))
    return list(zip([0, *tops], [*tops, N_FFT // 2 + 1], strict=True))


class BandSplitRNN(nn.Module):
    """Features ``[B, 1025, T, 4]`` -> a complex mask of the same layout."""

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape or Shape()
        widths = [PARTS * (last - first) for first, last in edges()]
        self.bandsplit = BandSplit(widths, self.shape)
        self.bandsequence = BandSequence(self.shape)
        self.maskest = MaskEstimation(widths, self.shape)
        self.train(False)

    def forward(self, features: Tensor) -> Tensor:
        bands = self.bandsequence(self.bandsplit(features))
        masks = self.maskest(bands)
        return torch.cat([mask.unflatten(-1, (-1, PARTS)).transpose(1, 2) for mask in masks], dim=1)


class BandSplit(nn.Module):
    """``[B, 1025, T, 4]`` -> ``[B, K, T, N]``"""

    def __init__(self, widths: list[int], shape: Shape) -> None:
        super().__init__()
        self.layernorms = nn.ModuleList(nn.LayerNorm(_norm(width, shape)) for width in widths)
        self.fcs = nn.ModuleList(nn.Linear(width, shape.width) for width in widths)
        self.over_frames = shape.frames > 0

    def forward(self, features: Tensor) -> Tensor:
        told = []
        for (first, last), norm, dense in zip(edges(), self.layernorms, self.fcs, strict=True):
            band = features[:, first:last].transpose(1, 2).flatten(2)  # [B, T, width]
            told.append(dense(norm(band.mT).mT if self.over_frames else norm(band)))
        return torch.stack(told, dim=1)


class BandSequence(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.bsrnn = nn.ModuleList(nn.Sequential(Recurrent(shape), Recurrent(shape)) for _ in range(shape.layers))

    def forward(self, bands: Tensor) -> Tensor:
        for layer in self.bsrnn:
            bands = layer(bands)
        return bands


class Recurrent(nn.Module):
    """An LSTM along the third axis, beside its input; the second and third axes change places for the next one."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.groupnorm = nn.GroupNorm(shape.width, shape.width)
        self.rnn = nn.LSTM(shape.width, shape.hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * shape.hidden, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, K, T, N]`` -> ``[B, T, K, N]``"""
        rows = x.flatten(0, 1)
        heard, _ = self.rnn(self.groupnorm(rows.mT).mT)
        answer: Tensor = x + self.fc(heard).view_as(x)
        return answer.transpose(1, 2)


class MaskEstimation(nn.Module):
    """``[B, K, T, N]`` -> for every band ``[B, T, width]``"""

    def __init__(self, widths: list[int], shape: Shape) -> None:
        super().__init__()
        self.layernorms = nn.ModuleList(nn.LayerNorm(_norm(shape.width, shape)) for _ in widths)
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(shape.width, shape.mask), nn.Tanh(), nn.Linear(shape.mask, 2 * width), nn.GLU())
            for width in widths
        )
        self.over_frames = shape.frames > 0

    def forward(self, bands: Tensor) -> list[Tensor]:
        normed = [
            norm(band.mT).mT if self.over_frames else norm(band)
            for norm, band in zip(self.layernorms, bands.unbind(1), strict=True)
        ]
        return [mlp(band) for mlp, band in zip(self.mlp, normed, strict=True)]


def _norm(width: int, shape: Shape) -> list[int]:
    return [width, shape.frames] if shape.frames else [width]
