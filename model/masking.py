"""Which frames of a row are masked at a given ratio: independently, by an exact count, or in spans. Pure.

Conventions: a row's mask comes from its own generator and its valid frames alone, on the CPU; whatever the kind, each
row masks `ratio` of its valid frames in the mean.

Shape suffixes: `B` rows, `T` frames.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.config import Corruption

SPAN_FRAMES = 25  # 1 s at 25 Hz; ours


def draw_masks(
    valid_BT: Tensor,
    ratio_B: Tensor,
    generators: Sequence[torch.Generator],
    corruption: Corruption = "bernoulli",
    span_frames: int = SPAN_FRAMES,
) -> Tensor:
    """Masked frames, bool `[B, T]`; padding is never masked and draws nothing.

    `bernoulli`: each frame with probability `ratio` (paper 5.2). `exact`: a set of `ratio * T` frames, rounded up or
    down at random so that the mean holds. `spans`: as many frames, in stretches of `span_frames` on a grid whose
    offset is drawn; the last stretch is cut so that the count is exact.
    """
    drawn = _KINDS[corruption]
    mask_BT = torch.zeros(valid_BT.shape, dtype=torch.bool)
    for row, (valid_T, generator) in enumerate(zip(valid_BT.cpu(), generators, strict=True)):
        if frames := int(valid_T.sum()):
            mask_BT[row, valid_T] = drawn(frames, float(ratio_B[row]), generator, span_frames)
    return mask_BT


def _bernoulli(frames: int, ratio: float, generator: torch.Generator, span_frames: int) -> Tensor:
    return torch.rand(frames, generator=generator, dtype=torch.float64) < ratio


def _exact(frames: int, ratio: float, generator: torch.Generator, span_frames: int) -> Tensor:
    count = _count(frames, ratio, generator)
    return torch.zeros(frames, dtype=torch.bool).index_fill_(0, _shuffled(frames, generator)[:count], True)


def _spans(frames: int, ratio: float, generator: torch.Generator, span_frames: int) -> Tensor:
    """Stretches in a random order; a frame is masked where its rank in that order is below the count."""
    count = _count(frames, ratio, generator)
    offset = int(torch.randint(span_frames, (), generator=generator))
    stretch = (torch.arange(frames) + offset) // span_frames
    order = _shuffled(int(stretch[-1]) + 1, generator)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    ranked = place[stretch].argsort(stable=True)
    return torch.zeros(frames, dtype=torch.bool).index_fill_(0, ranked[:count], True)


def _count(frames: int, ratio: float, generator: torch.Generator) -> int:
    dither = float(torch.rand((), generator=generator, dtype=torch.float64))
    return min(frames, math.floor(ratio * frames + dither))


def _shuffled(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)


_KINDS: dict[Corruption, Callable[[int, float, torch.Generator, int], Tensor]] = {
    "bernoulli": _bernoulli,
    "exact": _exact,
    "spans": _spans,
}
