"""Where sections begin: novelty of a self-similarity matrix at bar lines, and the best division of the song into parts.

Conventions: N intervals between grid lines (beats, or half seconds where no beat was found); boundaries are indices of
grid lines, from 0 to N, both included.
"""

import numpy as np

from pipeline.structure.features import Array, Indices

REGULAR = 4  # bars; the unit that most sections are multiples of


def self_similarity(chroma: Array, timbre: Array) -> Array:
    """``[N, N]``, 0..1: the mean of harmonic (cosine) and timbral (Gaussian) likeness of every two intervals."""
    unit = chroma / (np.linalg.norm(chroma, axis=1, keepdims=True) + 1e-9)
    standard = (timbre - timbre.mean(axis=0)) / (timbre.std(axis=0) + 1e-9)
    square = np.sum(standard**2, axis=1)
    distance = np.maximum(0, square[:, None] + square[None] - 2 * standard @ standard.T) / standard.shape[1]
    return np.asarray(0.5 * (unit @ unit.T) + 0.5 * np.exp(-distance))


def novelty(similarity: Array, reach: int) -> Array:
    """``[N + 1]``, >= 0: how much the `reach` intervals before a grid line differ from those after it (Foote 2000)."""
    count = len(similarity)
    curve = np.zeros(count + 1)
    for line in range(2, count - 1):
        r = min(reach, line, count - line)
        block = similarity[line - r : line + r, line - r : line + r] * _taper(r)
        within = block[:r, :r].sum() + block[r:, r:].sum()
        across = 2 * block[:r, r:].sum()
        # A short reach at either end of the song says less than a whole one.
        curve[line] = max(0.0, (within - across) / _taper(r).sum()) * np.sqrt(r / reach)
    return curve


def divide(curve: Array, lines: Indices, shortest: float, threshold: float, irregularity: float) -> tuple[int, ...]:
    """The boundaries among the candidate `lines` (grid indices, bar lines) that score best together.

    A boundary earns its novelty less `threshold` (both in units of the curve's maximum); a section costs `irregularity`
    where it isn't a multiple of four bars long, and can't be shorter than `shortest` (in grid intervals).
    """
    end = len(curve) - 1
    marks = np.unique(np.concatenate([[0], lines, [end]]))
    gain = curve / (curve.max() + 1e-9) - threshold
    best, before = np.full(len(marks), -np.inf), np.zeros(len(marks), dtype=np.int64)
    best[0] = 0.0
    for j in range(1, len(marks)):
        for i in range(j):
            if marks[j] - marks[i] < shortest and not (i == 0 and j == len(marks) - 1):
                continue
            cost = irregularity if (j - i) % REGULAR else 0.0
            score = best[i] + (gain[marks[j]] if marks[j] < end else 0.0) - cost
            if score > best[j]:
                best[j], before[j] = score, i
    path = [len(marks) - 1]
    while path[-1]:
        path.append(int(before[path[-1]]))
    return tuple(int(marks[k]) for k in reversed(path))


def _taper(reach: int) -> Array:
    """``[2 reach, 2 reach]`` Gaussian weights, the farther from the line the less."""
    offsets = (np.arange(2 * reach) - reach + 0.5) / reach
    window = np.exp(-2 * offsets**2)
    return np.outer(window, window)
