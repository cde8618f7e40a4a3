"""Variants of the Spleeter backend that the ablation compares; each was a candidate for the stage.

Conventions: a variant differs from the stage as it is used in the one thing that its name says.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.separation.spleeter import BINS, FRAME, HOP, SpleeterSeparator
from pipeline.separation.stage import SeparationConfig, Separator, build

WHOLE = "as it is used"
TOP_BINS = 224  # 8.6 to 11 kHz, whose mean mask is carried upward


class _MaskPower(SpleeterSeparator):
    """Spleeter's own ratio mask of magnitudes instead of powers; without the refiner."""

    def mask(self, spectra: Tensor) -> Tensor:
        share = super().mask(spectra)
        vocal, rest = share.sqrt(), (1 - share).sqrt()
        return vocal / (vocal + rest)


class _Wide(SpleeterSeparator):
    """The mask of the top bins is carried above 11 kHz."""

    def vocal_spectra(self, spectra: Tensor) -> Tensor:
        mask = self.mask(spectra[..., :BINS])
        above = mask[..., -TOP_BINS:].mean(-1, keepdim=True).expand(-1, -1, spectra.shape[2] - BINS)
        return spectra * torch.cat([mask, above], -1)


class _Middle(SpleeterSeparator):
    """The vocal is only sought in what both channels share."""

    def vocal_spectra(self, spectra: Tensor) -> Tensor:
        middle = spectra[..., :BINS].mean(0, keepdim=True)
        share = self.mask(spectra[..., :BINS]).mean(0, keepdim=True)
        return (middle * share).expand(2, -1, -1)


class _Wiener(SpleeterSeparator):
    """One step of expectation-maximisation on the two stems' covariances between the channels, bin by bin.

    Duong, Vincent and Gribonval, IEEE TASLP 18(7), 2010, as Spleeter and Open-Unmix use it.
    """

    def vocal_spectra(self, spectra: Tensor) -> Tensor:
        heard = spectra[..., :BINS]
        first = super().vocal_spectra(spectra)
        covariances = []
        for stem in (first, heard - first):
            power = stem.abs().square().mean(0)  # [frames, bins]
            outer = torch.einsum("ctf,dtf->fcd", stem, stem.conj())
            covariances.append(power[..., None, None] * (outer / (power.sum(0)[:, None, None] + 1e-10)))
        whole = covariances[0] + covariances[1]
        whole = whole + 1e-7 * heard.abs().square().mean() * torch.eye(2, dtype=whole.dtype)
        gains = covariances[0] @ torch.linalg.inv(whole)
        return torch.einsum("tfcd,dtf->ctf", gains, heard)


class _Phase(SpleeterSeparator):
    """One step of multiple input spectrogram inversion (Gunawan and Sen, IEEE SPL 17(5), 2010)."""

    def vocal_spectra(self, spectra: Tensor) -> Tensor:
        heard = spectra[..., :BINS]
        vocal = super().vocal_spectra(spectra)
        stems = [self.spectra(self.waves(stem))[..., :BINS] for stem in (vocal, heard - vocal)]
        missing = (heard - stems[0] - stems[1]) / 2
        again = stems[0] + missing
        turned = vocal.abs() * again / again.abs().clamp_min(1e-10)
        inside = FRAME // HOP  # the first and last frames lack neighbours
        return torch.cat([vocal[:, :inside], turned[:, inside:-inside], vocal[:, -inside:]], 1)


class _Shifted(SpleeterSeparator):
    """The mean of two answers whose frames lie half a hop apart: twice the work."""

    def _vocal(self, samples: Tensor) -> Tensor:
        late = super()._vocal(torch.nn.functional.pad(samples, (HOP // 2, 0)))
        return (super()._vocal(samples) + late[:, HOP // 2 :]) / 2


VARIANTS: dict[str, Callable[[], Separator]] = {  # the first is what the others are compared with
    WHOLE: lambda: build(SeparationConfig()),
    "without the refiner": lambda: build(SeparationConfig(refine=False)),
    "without the refiner, mask of magnitudes, not powers": lambda: _MaskPower(SeparationConfig(refine=False)),
    "mask carried above 11 kHz": lambda: _Wide(SeparationConfig()),
    "vocal in the middle only": lambda: _Middle(SeparationConfig()),
    "Wiener filter, one step": lambda: _Wiener(SeparationConfig()),
    "phase refined, one step": lambda: _Phase(SeparationConfig()),
    "mean of two window positions": lambda: _Shifted(SeparationConfig()),
}
