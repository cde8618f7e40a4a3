"""Rows of the bench: one measured figure of one stage, with its interval, the naive method beside it, and its bar.

Conventions: intervals are 95 % percentile bootstrap over clips or songs, seeded; shares are 0..1, never percent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Better = Literal["higher", "lower"]
Bar = float | tuple[float, float]
"""A limit on the good side of a figure, or the range (low, high), both included, that it must lie in."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `must` and `aim` as the issue that asked for the figure states them."""

    stage: str
    measure: str
    value: float
    low: float  # of the 95 % interval; NaN where nothing can be said
    high: float
    n: int  # clips or songs
    baseline: float  # the same figure of the naive method on the same clips
    baseline_name: str
    seconds_per_minute: float  # CPU seconds of the stage per minute of audio
    must: Bar | None = None
    aim: Bar | None = None
    better: Better = "higher"

    @property
    def passes(self) -> bool | None:
        """Whether the figure is on the good side of `must`; None where nothing is demanded."""
        return None if self.must is None else meets(self.value, self.must, self.better)

    @property
    def reaches_aim(self) -> bool | None:
        """The same for `aim`."""
        return None if self.aim is None else meets(self.value, self.aim, self.better)


def meets(value: float, bar: Bar, better: Better = "higher") -> bool:
    """Whether `value` is good enough, limits included; NaN never is."""
    if isinstance(bar, tuple):
        return bar[0] <= value <= bar[1]
    return value >= bar if better == "higher" else value <= bar


def interval(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float] = np.mean,
    seed: int = 0,
    resamples: int = 1000,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of `statistic` over clips; (NaN, NaN) for fewer than two.

    `values` has one entry, or one row of columns, a clip; clips are drawn as wholes, so a statistic of several
    columns (balanced accuracy of truth and guess) gets matching ones. Resamples on which the statistic is NaN (a
    class was not drawn) are left out. `ValueError` for values that are NaN or infinite.
    """
    clips = np.asarray(values, dtype=np.float64)
    if not np.isfinite(clips).all():
        raise ValueError(f"{(~np.isfinite(clips)).sum()} of {clips.size} values are not finite: leave such clips out")
    if len(clips) < 2:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(0, len(clips), size=(resamples, len(clips)))
    found = np.array([statistic(clips[pick]) for pick in picks], dtype=np.float64)
    found = found[np.isfinite(found)]
    if not len(found):
        return float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def failed(rows: Sequence[Row]) -> list[Row]:
    """Rows whose `must` is not met."""
    return [row for row in rows if row.passes is False]
