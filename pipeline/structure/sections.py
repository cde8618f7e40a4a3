"""From what the form network says of each beat to sections: the division and the names that score best together.

Conventions: N beats; a section is ``[first, last)`` in grid lines with an index into `LABELS`; scores are natural logs.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.structure.grid import Grid
from pipeline.types import Label, Section

LABELS: tuple[Label, ...] = get_args(Label)
Floats = NDArray[np.float64]
SHORTEST = 3  # beats; a bar of three
LABEL_WEIGHT = 0.5  # of a beat's label beside a boundary: neighbouring beats don't judge independently
BOUNDARY_BIAS = -1.0  # the network was trained with boundaries weighted threefold
CHORUS_EVIDENCE = 30.0  # nats; of 43 songs of development it flags 6 of 8 without a chorus and 4 of 35 with one
IMPOSSIBLE = -1e6  # nats
SILENT = 1.5  # units of 20 dB over the floor: a section whose loudest band stays below is silence (-50 dB)


@dataclass(frozen=True, slots=True)
class Opinion:
    """The form network's output for one song."""

    boundary: Floats  # [N] logit: a section begins with this beat
    labels: Floats  # [N, 8] log probabilities


def divide(opinion: Opinion, transitions: Floats) -> list[tuple[int, int, int]]:
    """(first, last, label) of each section, tiling ``[0, N)``; `transitions` ``[8, 8]`` are log probabilities.

    A song has a chorus only where the best division with one beats the best without by `CHORUS_EVIDENCE`.
    """
    best, score = _best(opinion, transitions)
    chorus = LABELS.index("chorus")
    if all(label != chorus for _, _, label in best):
        return best
    labels = opinion.labels.copy()
    labels[:, chorus] = IMPOSSIBLE
    plain, plain_score = _best(Opinion(opinion.boundary, labels), transitions)
    # A short clip has too few beats for all of it.
    return best if score - plain_score > min(CHORUS_EVIDENCE, len(labels) / 4) else plain


def _best(opinion: Opinion, transitions: Floats) -> tuple[list[tuple[int, int, int]], float]:
    """The division of the highest score, and that score."""
    count = len(opinion.boundary)
    sums = LABEL_WEIGHT * np.concatenate([np.zeros((1, len(LABELS))), np.cumsum(opinion.labels, axis=0)])
    begin = opinion.boundary + BOUNDARY_BIAS
    score = np.full((count + 1, len(LABELS)), -np.inf)  # of the best division of [0, j) whose last section has label k
    enter = np.full_like(score, -np.inf)  # of the best one that goes on with label k at line i
    enter[0] = 0.0
    previous = np.zeros(score.shape, dtype=np.int64)
    start = np.zeros(score.shape, dtype=np.int64)
    for j in range(min(SHORTEST, count), count + 1):
        last = max(1, j - SHORTEST + 1)
        options = enter[:last] - sums[:last]
        start[j] = options.argmax(axis=0)
        score[j] = options.max(axis=0) + sums[j]
        if j < count:
            onward = score[j][:, None] + transitions
            previous[j] = onward.argmax(axis=0)
            enter[j] = onward.max(axis=0) + begin[j]
    return _trace(int(score[count].argmax()), count, start, previous), float(score[count].max())


def _trace(label: int, count: int, start: NDArray[np.int64], previous: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    found, j = [], count
    while True:
        i = int(start[j, label])
        found.append((i, j, label))
        if i == 0:
            return found[::-1]
        label, j = int(previous[i, label]), i


def name(grid: Grid, divided: list[tuple[int, int, int]]) -> tuple[Section, ...]:
    """Sections in seconds; neighbours that are silent become one."""
    loudest = grid.timbre.max(axis=1)
    lengths = np.diff(grid.lines)
    sections: list[Section] = []
    for first, last, label in divided:
        silent = np.average(loudest[first:last], weights=lengths[first:last]) < SILENT
        found: Label = "silence" if silent else LABELS[label]
        start = float(grid.lines[first])
        if silent and sections and sections[-1].label == "silence":
            start = sections.pop().start
        sections.append(Section(start, float(grid.lines[last]), found))
    return tuple(sections)


def transition_table(forms: list[list[int]], smoothing: float) -> Floats:
    """``[8, 8]`` log probabilities of the label after each label, from lists of label indices."""
    counts = np.full((len(LABELS), len(LABELS)), smoothing)
    for form in forms:
        for a, b in pairwise(form):
            counts[a, b] += 1
    return np.asarray(np.log(counts / counts.sum(axis=1, keepdims=True)))
