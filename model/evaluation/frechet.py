"""Fréchet distance between two sets of embeddings (FAD, paper 5.3, after Gui et al. 2024).

Conventions: embeddings are ``[N, D]``, one row per window, pooled over all songs; the distance is squared, in squared
embedding units, with the unbiased covariance and no shrinkage. It is biased upwards by small N, so every value carries
its counts: Gaussians 5.12 apart Gaussians at D = 512 give 664 from 100 frames and 32 from 5000 (measured).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Mean ``[D]`` and covariance ``[D, D]`` of N rows."""

    mean: Matrix
    covariance: Matrix
    count: int

    @property
    def dimension(self) -> int:
        return len(self.mean)


@dataclass(frozen=True, slots=True)
class Distance:
    """A Fréchet distance and what it rests on."""

    value: float
    frames_reference: int
    frames_estimate: int
    dimension: int

    @property
    def enough_frames(self) -> bool:
        """Whether both sides have at least 2 D frames; below that compare nothing across set sizes."""
        return min(self.frames_reference, self.frames_estimate) >= 2 * self.dimension


def gaussian(embeddings: Embeddings) -> Gaussian:
    """Mean and unbiased covariance of embeddings ``[N, D]``; `ValueError` below two rows."""
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(
            f"a covariance needs [N >= 2, D] embeddings, got {embeddings.shape}: evaluate more or longer songs"
        )
    rows = embeddings.astype(np.float64)
    return Gaussian(rows.mean(axis=0), np.cov(rows, rowvar=False, ddof=1).reshape(rows.shape[1], -1), len(rows))


def distance(reference: Gaussian, estimate: Gaussian) -> Distance:
    """``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``, the last by the eigenvalues of ``S1^(1/2) S2 S1^(1/2)``."""
    if reference.dimension != estimate.dimension:
        raise ValueError(
            f"embeddings have {reference.dimension} and {estimate.dimension} dimensions: use one embedder for both"
        )
    root = _square_root(reference.covariance)
    product = root @ estimate.covariance @ root
    shared = np.sqrt(np.clip(np.linalg.eigvalsh((product + product.T) / 2), 0, None)).sum()
    gap = np.sum(np.square(reference.mean - estimate.mean))
    value = gap + np.trace(reference.covariance) + np.trace(estimate.covariance) - 2 * shared
    return Distance(float(value), reference.count, estimate.count, reference.dimension)


def between(reference: Sequence[Embeddings], estimate: Sequence[Embeddings]) -> Distance:
    """Distance of two pools of songs."""
    return distance(gaussian(np.concatenate(reference)), gaussian(np.concatenate(estimate)))


def leave_one_out(reference: Sequence[Embeddings], estimate: Sequence[Embeddings]) -> list[float]:
    """The distance without song i on either side, for each i: what the jackknife interval is made of.

    A bootstrap would repeat songs and so bias a Fréchet distance upwards; the jackknife doesn't. Empty where the songs
    left would have fewer than two frames.
    """
    sizes = [[len(song) for song in pool] for pool in (reference, estimate)]
    if any(sum(size) - max(size) < 2 for size in sizes):
        return []
    kept = [[j for j in range(len(estimate)) if j != i] for i in range(len(estimate))]
    return [between([reference[j] for j in rest], [estimate[j] for j in rest]).value for rest in kept]


def _square_root(covariance: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh(covariance)
    root: Matrix = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    return root
