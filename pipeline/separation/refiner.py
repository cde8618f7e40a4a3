"""A small network that corrects Spleeter's mask with what Spleeter doesn't look at: the stereo image, and our voices.

Conventions: maps are [B, 8, T, 1024], frames of Spleeter's framing, T a multiple of 16, magnitudes over the RMS of the
mixture's, to the power 0.3; masks are [B, 2, T, 1024], the share of the vocal in each channel, 0..1. The answer is
Spleeter's own mask where the network adds nothing, as it does before training. Blocks of 2 frames by 4 bins are folded
into channels first, so that a network of this size can see 12 seconds at full resolution. Ours; the hourglass with
skips is U-Net's (Ronneberger et al., MICCAI 2015).
"""

import hashlib
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.errors import BackendUnavailable

MAPS = 8  # |left|, |right|, |mid|, |side| of the mixture, two channels of each of Spleeter's networks
BLOCK_FRAMES, BLOCK_BINS = 2, 4
WIDTHS = (24, 48, 64, 96)
COMPRESSION = 0.3
EDGE = 1e-4  # masks are kept this far from 0 and 1 before the logit
WEIGHTS = Path(__file__).parent / "weights" / "refiner.safetensors"


def maps_of(spectra: Tensor, vocal: Tensor, accompaniment: Tensor, frames: int) -> Tensor:
    """What the network sees, [8, T, 1024], of a mixture's spectra and of Spleeter's magnitudes, all [2, T, 1024].

    The first `frames` frames hold the mixture; the others are padding and don't count for its level.
    """
    left, right = spectra
    parts = torch.stack([left.abs(), right.abs(), (left + right).abs() / 2, (left - right).abs() / 2])
    level = parts[:2, :frames].square().mean().sqrt().clamp_min(1e-6)
    return (torch.cat([parts, vocal, accompaniment]) / level) ** COMPRESSION


def ratio_mask(maps: Tensor) -> Tensor:
    """Spleeter's ratio mask from the maps, [B, 2, T, 1024]."""
    vocal, accompaniment = (maps[:, i : i + 2] ** (2 / COMPRESSION) for i in (4, 6))
    return (vocal + 5e-11) / (vocal + accompaniment + 1e-10)


class Refiner(nn.Module):
    """Maps -> mask."""

    def __init__(self) -> None:
        super().__init__()
        block = BLOCK_FRAMES * BLOCK_BINS
        self.enter = nn.Conv2d((MAPS + 1) * block, WIDTHS[0], 1)
        self.first = _layer(WIDTHS[0], WIDTHS[0])
        pairs = list(pairwise(WIDTHS))
        self.down = nn.ModuleList(nn.Sequential(_layer(a, b, 2), _layer(b, b)) for a, b in pairs)
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in reversed(pairs))
        self.up = nn.ModuleList(_layer(a, a) for a, _ in reversed(pairs))
        self.leave = nn.Conv2d(WIDTHS[0], 2 * block, 1)
        nn.init.zeros_(self.leave.weight)
        self.leave.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, maps: Tensor) -> Tensor:
        place = torch.linspace(-1, 1, maps.shape[3], device=maps.device).expand(len(maps), 1, *maps.shape[2:])
        hidden = self.first(self.enter(fold(torch.cat([maps, place], 1))))
        skips = []
        for down in self.down:
            skips.append(hidden)
            hidden = down(hidden)
        for narrow, up in zip(self.narrow, self.up, strict=True):
            hidden = up(F.interpolate(narrow(hidden), scale_factor=2.0) + skips.pop())
        mask = torch.logit(ratio_mask(maps), EDGE)
        return torch.sigmoid(mask + unfold(self.leave(hidden)))


def fold(maps: Tensor) -> Tensor:
    """[B, C, T, F] -> [B, 8 C, T / 2, F / 4], channels last in memory, which the convolutions like."""
    batch, channels, frames, bins = maps.shape
    blocks = maps.reshape(batch, channels, frames // BLOCK_FRAMES, BLOCK_FRAMES, bins // BLOCK_BINS, BLOCK_BINS)
    folded = blocks.permute(0, 2, 4, 1, 3, 5).reshape(batch, frames // BLOCK_FRAMES, bins // BLOCK_BINS, -1)
    return folded.permute(0, 3, 1, 2)


def unfold(folded: Tensor) -> Tensor:
    """The inverse of `fold`."""
    batch, channels, frames, bins = folded.shape
    blocks = folded.permute(0, 2, 3, 1).reshape(batch, frames, bins, -1, BLOCK_FRAMES, BLOCK_BINS)
    count = channels // (BLOCK_FRAMES * BLOCK_BINS)
    return blocks.permute(0, 3, 1, 4, 2, 5).reshape(batch, count, frames * BLOCK_FRAMES, bins * BLOCK_BINS)


def load_refiner(path: Path = WEIGHTS) -> tuple[Refiner, str]:
    """The trained network, ready to run, and the SHA-256 of its file; `BackendUnavailable` if it can't be read."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a mapping)
        network = Refiner()
        network.load_state_dict(state, strict=False)  # BatchNorm's counter isn't stored
    except (OSError, SafetensorError, RuntimeError) as error:
        text = f"the separator's refiner can't be read from {path}: {error}; install Backline again"
        raise BackendUnavailable(text) from error
    channels_last(network)
    return network.eval(), digest


def channels_last(module: nn.Module) -> None:
    """Lay out the kernels as the convolutions like them best: a quarter less time here."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1))
