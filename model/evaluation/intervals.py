"""How sure a mean over songs is, and whether it beats another one.

Conventions: intervals are percentile bootstrap over songs, seeded; `None` where one song or none was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

Verdict = Literal["beats", "unclear", "loses"]
Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float


def bootstrap(values: Sequence[float], draws: int, confidence: float, seed: int) -> Interval | None:
    """Percentile interval of the mean of per-song values."""
    if len(values) < 2:
        return None
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(values), size=(draws, len(values)))
    means = np.asarray(values, dtype=np.float64)[picks].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))


def jackknife(value: float, left_out: Sequence[float], confidence: float) -> Interval | None:
    """Normal interval around a statistic of the whole set, from its values with one song left out."""
    count = len(left_out)
    if count < 2:
        return None
    spread = np.square(np.asarray(left_out) - np.mean(left_out)).sum()
    reach = float(norm.ppf((1 + confidence) / 2) * np.sqrt((count - 1) / count * spread))
    return Interval(value - reach, value + reach)


def quartiles(values: Sequence[float]) -> Interval | None:
    """The middle half of the values, for medians."""
    if len(values) < 2:
        return None
    low, high = np.quantile(values, [0.25, 0.75])
    return Interval(float(low), float(high))


def judge(gap: float, interval: Interval | None, better: Better, least: float = 0.0) -> Verdict:
    """Verdict on ``ours - theirs``: clear only where its interval leaves zero out and the gap is at least `least`."""
    sign = 1.0 if better == "higher" else -1.0
    if interval is None or interval.low <= 0 <= interval.high or abs(gap) < least:
        return "unclear"
    return "beats" if sign * gap > 0 else "loses"
