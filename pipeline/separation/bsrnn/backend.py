"""Separation with the band-split RNN, the system that the paper names: segments of three seconds, half overlapping.

Conventions: stereo at 44.1 kHz inside. Segments fade into each other with a Hann window, so that a song of any length
comes out without seams; the last one is filled up with silence. In float32: in bfloat16 the masks were 44 dB from those
(random weights, tests/pipeline/test_precision.py).
"""

import numpy as np
import torch
from torch import Tensor

from pipeline.assets import store
from pipeline.audio import as_stereo, resample
from pipeline.batching import in_batches
from pipeline.separation.bsrnn import weights
from pipeline.separation.bsrnn.network import HOP, N_FFT, RATE, BandSplitRNN
from pipeline.separation.stage import SeparationConfig, Stems, stems_of
from pipeline.separation.threads import one_thread
from pipeline.types import Audio

FRAMES = 259  # of a segment of 3 s where the checkpoint does not say: 3 * 44,100 / 512 and one; paper, section IV
BATCH = 4  # segments at a time; ours


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

    def __call__(self, mixture: Audio) -> Stems:
        heard = resample(as_stereo(mixture), RATE)
        with one_thread(), torch.inference_mode():
            vocal = self._vocal(torch.from_numpy(heard.samples).to(self.config.device))
        return stems_of(mixture, Audio(np.ascontiguousarray(vocal.cpu().numpy()), RATE))

    def _vocal(self, samples: Tensor) -> Tensor:
        """``[2, n]`` -> ``[2, n]``"""
        size, step, length = self._samples, self._samples // 2, samples.shape[1]
        starts = range(0, max(length, 1) + step, step)
        padded = torch.nn.functional.pad(samples, (step, len(starts) * step + size - length - step))
        pieces = [padded[:, start : start + size] for start in starts]
        fade = torch.hann_window(size, device=samples.device)  # two halves of it add up to one
        total = torch.zeros_like(padded)
        answers = in_batches(pieces, BATCH, lambda batch: list(self.segments(torch.stack(list(batch)))), "BSRNN")
        for start, answer in zip(starts, answers, strict=True):
            total[:, start : start + size] += answer * fade
        return total[:, step : step + length]

    def segments(self, samples: Tensor) -> Tensor:
        """The vocal in segments ``[B, 2, size]`` of equal length."""
        spectra = torch.stft(
            samples.flatten(0, 1), N_FFT, HOP, window=self._window, return_complex=True
        )  # [2 B, 1025, T]
        both = torch.view_as_real(spectra).view(len(samples), 2, *spectra.shape[1:], 2)
        bins = both.permute(0, 2, 3, 1, 4).contiguous()  # [B, 1025, T, 2, 2]
        mask = self.network(bins.flatten(-2)).view_as(bins).contiguous()
        voice = torch.view_as_complex(mask) * torch.view_as_complex(bins)
        lines = voice.permute(0, 3, 1, 2).flatten(0, 1)
        return torch.istft(lines, N_FFT, HOP, window=self._window, length=samples.shape[-1]).view_as(samples)
