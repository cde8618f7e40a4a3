"""Separation with the band-split RNN, the system that the paper names: segments of three seconds, half overlapping.

Conventions: stereo at 44.1 kHz inside. Segments fade into each other with a Hann window, so that a song of any length
comes out without seams; the last one is filled up with silence. Segments of several songs fill batches of one shape;
on a CPU a segment's place in its batch changes no bit where the layers' widths are multiples of 8, as the published
ones are; odd widths are rounded by their place. In bfloat16 the network alone is; spectra and masks stay float32.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from pipeline.assets import store
from pipeline.audio import as_stereo, resample
from pipeline.batching import in_batches
from pipeline.separation.bsrnn import weights
from pipeline.separation.bsrnn.network import HOP, N_FFT, RATE, BandSplitRNN
from pipeline.separation.stage import SeparationConfig, Stems, at_once, stems_of
from pipeline.separation.threads import one_thread
from pipeline.types import Audio

FRAMES = 259  # of a segment of 3 s where the checkpoint does not say: 3 * 44,100 / 512 and one; paper, section IV


def build(config: SeparationConfig) -> "BandSplitSeparator":
    """With the weights of the asset ``bsrnn``; `BackendUnavailable` says how to get them."""
    held = store.held("bsrnn")
    network = weights.load(held.tensors(held.asset.files[0].path))
    return BandSplitSeparator(config, network, *store.combined([held]))


class BandSplitSeparator:
    name, backend = "separation", "bsrnn"

    def __init__(self, config: SeparationConfig, network: BandSplitRNN, weights_sha256: str, licence: str) -> None:
        self.config, self.network = config, network.to(config.device)
        self.weights_sha256, self.licence = weights_sha256, licence
        self._window = torch.hann_window(N_FFT, device=config.device)
        self._samples = ((network.shape.frames or FRAMES) - 1) * HOP
        self.at_once = at_once(config, self._samples / RATE)  # segments

    def __call__(self, mixture: Audio) -> Stems:
        return self.batch([mixture])[0]

    def batch(self, mixtures: Sequence[Audio]) -> list[Stems]:
        """The same of several songs, whose segments fill the batches together."""
        heard = [torch.from_numpy(resample(as_stereo(mixture), RATE).samples) for mixture in mixtures]
        with one_thread(), torch.inference_mode():
            vocals = [np.ascontiguousarray(vocal.numpy()) for vocal in self.vocals(heard)]
        return [stems_of(mixture, Audio(vocal, RATE)) for mixture, vocal in zip(mixtures, vocals, strict=True)]

    def vocals(self, songs: Sequence[Tensor]) -> list[Tensor]:
        """``[2, n]`` of each song -> ``[2, n]``"""
        pieces = (piece for song in songs for piece in self._cut(song))
        answers = iter(in_batches(pieces, self.at_once, self._heard, "BSRNN", filled=True))
        return [self._joined(song.shape[1], answers) for song in songs]

    def _starts(self, length: int) -> range:
        """Where segments begin in a song that half a segment of silence comes before."""
        step = self._samples // 2
        return range(0, max(length, 1) + step, step)

    def _cut(self, song: Tensor) -> Iterator[Tensor]:
        """Segments ``[2, size]``, half overlapping."""
        starts, step, length = self._starts(song.shape[1]), self._samples // 2, song.shape[1]
        padded = torch.nn.functional.pad(song, (step, len(starts) * step + self._samples - length - step))
        for start in starts:
            yield padded[:, start : start + self._samples]

    def _joined(self, length: int, answers: Iterator[Tensor]) -> Tensor:
        """One song of its segments' answers, each faded into the next."""
        size, step, starts = self._samples, self._samples // 2, self._starts(length)
        fade, total = torch.hann_window(size), torch.zeros(2, len(starts) * step + size)  # two halves add up to one
        for start in starts:
            total[:, start : start + size] += next(answers) * fade
        return total[:, step : step + length]

    def _heard(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        return list(self.segments(torch.stack(list(pieces)).to(self.config.device)).cpu())

    def segments(self, samples: Tensor) -> Tensor:
        """The vocal in segments ``[B, 2, size]`` of equal length."""
        spectra = torch.stft(
            samples.flatten(0, 1), N_FFT, HOP, window=self._window, return_complex=True
        )  # [2 B, 1025, T]
        both = torch.view_as_real(spectra).view(len(samples), 2, *spectra.shape[1:], 2)
        bins = both.permute(0, 2, 3, 1, 4).contiguous()  # [B, 1025, T, 2, 2]
        with self._precision():
            masks = self.network(bins.flatten(-2)).to(bins)
        voice = torch.view_as_complex(_times(masks.view_as(bins), bins))
        lines = voice.permute(0, 3, 1, 2).flatten(0, 1)
        return torch.istft(lines, N_FFT, HOP, window=self._window, length=samples.shape[-1]).view_as(samples)

    def _precision(self) -> AbstractContextManager[object]:
        if self.config.bsrnn_precision == "float32":
            return nullcontext()
        return torch.autocast(self.config.device, dtype=torch.bfloat16)


def _times(a: Tensor, b: Tensor) -> Tensor:
    """The product of complex numbers ``[..., 2]``, step by step: torch's own rounds by the place in memory, so that a
    segment's answer would depend on its place in the batch."""
    real, imaginary = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1], a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]
    return torch.stack([real, imaginary], dim=-1)
