"""The fixed half of the embedded codec: a feature that keeps pitch, its principal components, 16384 k-means centres.

Conventions: `N` codes (groups of four mel frames); a feature row is ``[log-mel * weight | amplitude * mel^0.4]``, 800
wide, because the logarithm alone loses the tune and the root alone loses onsets (notes/codec.md 2.3); points are its 64
leading components.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.codec.mel import BANDS, FRAMES_PER_CODE

COMPONENTS = 64  # notes/codec.md section 4
LOW_BANDS, LOW_WEIGHT, HIGH_WEIGHT = 45, 1.4, 0.7  # the bands that carry pitch count more; same
ROOT = 0.4  # exponent of the amplitude half; same
ROWS = 512  # points per distance block: a table of 34 MB


@dataclass(frozen=True, slots=True)
class Codebook:
    """Everything that turns log-mels into codes."""

    amplitude: float  # scale of the root half that gives both halves the same variance
    mean: Tensor  # [800]
    components: Tensor  # [800, 64]
    centres: Tensor  # [16384, 64]

    def points(self, log_mels: Tensor) -> Tensor:
        """Log-mel ``[4 N, 100]`` -> points ``[N, 64]``: the continuous latents before quantisation."""
        return (features(log_mels, self.amplitude) - self.mean) @ self.components

    def codes(self, log_mels: Tensor) -> Tensor:
        """Log-mel ``[4 N, 100]`` -> codes ``[N]`` int64."""
        return nearest(self.points(log_mels), self.centres)[0]


def features(log_mels: Tensor, amplitude: float) -> Tensor:
    """``[4 N, 100]`` -> ``[N, 800]``."""
    weight = torch.full((BANDS,), HIGH_WEIGHT)
    weight[:LOW_BANDS] = LOW_WEIGHT
    width = FRAMES_PER_CODE * BANDS
    rows = log_mels.float()
    return torch.cat([(rows * weight).reshape(-1, width), (amplitude * (ROOT * rows).exp()).reshape(-1, width)], dim=1)


def nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Index ``[N]`` of the Euclidean nearest centre and the squared distance ``[N]``; of equal ones the first."""
    half = (centres * centres).sum(dim=1) / 2
    index = torch.empty(len(points), dtype=torch.int64)
    error = torch.empty(len(points))
    table = torch.empty((ROWS, len(centres)))
    for start in range(0, len(points), ROWS):
        block = points[start : start + ROWS]
        scores = torch.addmm(-half, block, centres.T, out=table[: len(block)])
        best = torch.from_numpy(scores.numpy().argmax(axis=1))  # numpy's argmax is 2 x as fast as torch's
        index[start : start + ROWS] = best
        gain = scores.gather(1, best[:, None])[:, 0]
        error[start : start + ROWS] = (block * block).sum(dim=1) - 2 * gain
    return index, error


def equalising_amplitude(log_mels: Tensor) -> float:
    """The scale at which the root half has the variance of the logarithm half."""
    both = features(log_mels, 1.0).var(dim=0)
    width = FRAMES_PER_CODE * BANDS
    return float((both[:width].sum() / both[width:].sum()).sqrt())


def principal_components(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[D]`` and the leading components ``[D, 64]`` of rows ``[N, D]``, each with its largest entry positive."""
    mean = rows.mean(dim=0)
    centred = (rows - mean).double()
    vectors = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -COMPONENTS:].flip(1)
    sign = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
    return mean, (vectors * sign).float().contiguous()


def k_means_step(points: Tensor, centres: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """One Lloyd pass: new centres and the mean squared error before it. Empty centres move onto badly coded points."""
    index, error = nearest(points, centres)
    counts = torch.bincount(index, minlength=centres.shape[0])
    sums = torch.zeros_like(centres).index_add_(0, index, points)
    moved = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
    empty = torch.nonzero(counts == 0)[:, 0]
    if len(empty):
        # beyond 2^24 points torch.multinomial refuses: a random subset is as good
        pool = torch.randperm(len(points), generator=generator)[: 2**23]
        chance = error[pool].clamp_min(0).double() + 1e-9
        moved[empty] = points[pool[torch.multinomial(chance, len(empty), generator=generator)]]
    return moved, float(error.mean())


def first_centres(points: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` different rows of the sample; `ValueError` for a sample that is smaller."""
    if len(points) < size:
        raise ValueError(f"a sample of {len(points)} code-long frames can't fill {size} codes: raise codebook_points")
    return points[torch.randperm(len(points), generator=generator)[:size]].clone()
