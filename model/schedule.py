"""How much is masked, when: schedules of training and sampling, and the seeded draws behind them.

Shape suffixes: `B` rows of a batch, `N` consecutive samples of the global stream.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

POWERS = {"linear": 1.0, "sqrt": 0.5, "square": 2.0, "cubic": 3.0, "power": 2.0}  # exponents of 1 - p (released code)
BLOCK = 4096  # Sobol points drawn at once; a block is found by skipping, which takes time proportional to its index


def remask_ratio(schedule: str | Sequence[float], progress: float) -> float:
    """Share of a row's frames still masked once `progress` (0..1] of the steps are done.

    `cosine` is cos(pi p / 2), the others (1 - p) to a power, `power:<x>` to the power x (paper 4.3, C.2); a sequence
    holds one ratio for each of its N steps and is read at p = (i + 1) / N.
    """
    if not 0 < progress <= 1:
        raise ValueError(f"progress must be in (0, 1], got {progress}")
    if not isinstance(schedule, str):
        return float(schedule[round(progress * len(schedule)) - 1])
    if schedule == "cosine":
        return math.cos(math.pi / 2 * progress)
    return float((1 - progress) ** _exponent(schedule))


def _exponent(schedule: str) -> float:
    name, _, exponent = schedule.partition(":")
    if name not in POWERS or (exponent and name != "power"):
        raise ValueError(f"schedule {schedule!r} is none of cosine, {', '.join(POWERS)}, power:<x>")
    return float(exponent) if exponent else POWERS[name]


def mask_ratios(seed: int, start: int, count: int, schedule: str | Sequence[float] = "cosine") -> Tensor:
    """Mask ratios `[N]` float64, 0..1, of samples `start` to `start + count` of the one global Sobol stream.

    A sample's ratio depends on the seed and on its global number alone, so ranks, workers, accumulation and restarts
    share one low-discrepancy sequence (paper 5.2). Between the ratios of a list, and between 1 and its first, lie
    straight lines. Unclamped: see `clamp_ratios`.
    """
    if start < 0 or count < 0:
        raise ValueError(f"start and count must be >= 0, got {start}, {count}")
    blocks = range(start // BLOCK, (start + count - 1) // BLOCK + 1) if count else range(0)
    drawn_N = torch.cat([_sobol_block(seed, block) for block in blocks] or [torch.zeros(0, dtype=torch.float64)])
    offset = start - start // BLOCK * BLOCK
    progress_N = drawn_N[offset : offset + count]
    if not isinstance(schedule, str):
        places = np.linspace(0, 1, len(schedule) + 1)
        return torch.from_numpy(np.interp(progress_N.numpy(), places, (1.0, *schedule)))
    return torch.cos(math.pi / 2 * progress_N) if schedule == "cosine" else (1 - progress_N) ** _exponent(schedule)


@lru_cache(maxsize=4)
def _sobol_block(seed: int, block: int) -> Tensor:
    engine = SobolEngine(1, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    engine.fast_forward(block * BLOCK)  # type: ignore[no-untyped-call]
    return engine.draw(BLOCK, dtype=torch.float64).squeeze(1)


def clamp_ratios(ratio_B: Tensor, frames_B: Tensor, min_ratio: float = 1e-3) -> Tensor:
    """`ratio_B`, at least `min_ratio` and one of the row's `frames_B` valid frames: it bounds the weight 1/t."""
    floor_B = (1 / frames_B.clamp(min=1).to(ratio_B.dtype)).clamp(min=min_ratio)
    return torch.maximum(ratio_B, floor_B)


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator whose stream depends on `parts` alone: seed, sample number, purpose."""
    digest = blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
