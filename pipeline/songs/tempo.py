"""Tempo: the time at which every bar starts, steady or not, in a given total length."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from pipeline.songs.score import Part

CURVES = {"steady": 0.55, "drifting": 0.15, "by section": 0.18, "wandering": 0.12}  # probabilities, ours
RITARD_SHARE = 0.25  # of the songs slow down in their last two bars
RITARD = (0.92, 0.8)  # of the tempo, in those two bars
RITARD_BARS = 12  # shorter songs have none


def bar_times(rng: np.random.Generator, parts: tuple[Part, ...], tempo: float) -> tuple[float, ...]:
    """Starts of all bars and the end, in seconds; the mean tempo (beats over seconds) is `tempo` exactly."""
    bars = sum(part.bars for part in parts)
    factors = _curve(rng, str(rng.choice(list(CURVES), p=list(CURVES.values()))), parts, bars)
    if rng.random() < RITARD_SHARE and bars >= RITARD_BARS:
        factors[-2:] *= RITARD
    lengths = 1.0 / factors
    lengths *= bars * parts[0].meter * 60.0 / tempo / lengths.sum()
    return tuple(float(t) for t in np.concatenate([[0.0], np.cumsum(lengths)]))


def _curve(rng: np.random.Generator, kind: str, parts: tuple[Part, ...], bars: int) -> np.ndarray:
    """The tempo of each bar relative to the song's."""
    if kind == "drifting":
        depth = float(rng.uniform(0.015, 0.05)) * float(rng.choice([-1.0, 1.0, 1.0]))
        return np.linspace(1 - depth, 1 + depth, bars)
    if kind == "by section":
        by_label = {label: float(rng.uniform(-0.02, 0.02)) for label in sorted({part.label for part in parts})}
        by_label["chorus"] = float(rng.uniform(0.01, 0.04))
        by_label["bridge"] = float(rng.uniform(-0.07, -0.02))
        return np.concatenate([np.full(part.bars, 1 + by_label[part.label]) for part in parts])
    if kind == "wandering":
        walk = gaussian_filter1d(rng.normal(size=bars), 2.0, mode="nearest")
        return np.asarray(1 + float(rng.uniform(0.01, 0.025)) * walk / (np.abs(walk).max() + 1e-9))
    return np.ones(bars)
