"""From frame activations to beats and bars: the likeliest path through tempo, place in the bar and metre.

Conventions: frames are 20 ms; an interval is the number of frames from one beat to the next; a path names its beats
only, what lies between two beats is scored as "no beat". Tempo may drift from beat to beat, the metre stays.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.structure.spectra import MEL_RATE

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
SHORTEST, LONGEST = 14, 60  # frames between beats: 214 to 50 beats a minute
DRIFT = (
    50.0  # cost per unit of log tempo change between neighbouring beats; 20, 50 and 80 tried on 10 songs of development
)
FLOOR = 0.02  # activations are kept this far from 0 and 1: a break without drums may hide a few beats
MARGIN = 2  # frames on either side of a beat that its own activation covers
PULSE = 0.3  # the strongest activations of a song must reach this, else there is no pulse
FEWEST = 8  # beats; fewer are no pulse


@dataclass(frozen=True, slots=True)
class Metre:
    """The beats of a song."""

    beats: Floats  # [N] s
    downbeats: Indices  # which beats begin a bar


NONE = Metre(np.zeros(0), np.zeros(0, dtype=np.int64))


def track(beat: Floats, downbeat: Floats, metres: tuple[int, ...]) -> Metre:
    """Beats and bars of activations ``[T]``, 0..1; `metres` are the beats a bar that are tried. `NONE` = no pulse."""
    if len(beat) <= LONGEST or np.sort(beat)[-FEWEST * MARGIN :].mean() < PULSE:
        return NONE
    paths = [_path(beat, downbeat, per_bar) for per_bar in metres]
    _, frames, positions = max(paths, key=lambda path: path[0])
    if len(frames) < FEWEST:
        return NONE
    return Metre(_refined(beat, frames), np.flatnonzero(positions == 0))


def tempo(beats: Floats) -> float:
    """Beats a minute: the median over eight-beat stretches; 0 = no beats."""
    if len(beats) < FEWEST:
        return 0.0
    stretch = min(8, len(beats) - 1)
    return float(60 * stretch / np.median(beats[stretch:] - beats[:-stretch]))


def _path(beat: Floats, downbeat: Floats, per_bar: int) -> tuple[float, Indices, Indices]:
    """The best path in one metre: its score, its beat frames and their positions in the bar (0 = first)."""
    count = len(beat)
    on, between = _evidence(beat, downbeat, per_bar)
    intervals = np.arange(SHORTEST, LONGEST + 1)
    change = -DRIFT * np.abs(np.log(intervals[:, None] / intervals[None]))  # [from, to]
    # score[t, p, i]: the best path that ends with beat p of the bar on frame t, reached by interval i
    score = np.full((count, per_bar, len(intervals)), -np.inf)
    onward = np.full_like(score, -np.inf)  # the same, ready to go on by interval i
    came = np.zeros(score.shape, dtype=np.int16)
    columns = np.arange(len(intervals))
    for t in range(count):
        origin = t - intervals
        valid = origin >= 0
        if valid.any():
            gap = between[max(0, t - MARGIN)] - between[np.minimum(origin[valid] + MARGIN + 1, count)]
            reached = onward[origin[valid], :, columns[valid]] + gap[:, None]  # [I', p]
            score[t][:, valid] = np.roll(reached, 1, axis=1).T
        # A song may begin anywhere, at any tempo.
        score[t] = np.maximum(score[t], between[max(0, t - MARGIN)])
        score[t] += on[t][:, None]
        options = score[t][:, :, None] + change
        came[t] = options.argmax(axis=1)
        onward[t] = options.max(axis=1)
    rest = between[count] - between[np.minimum(np.arange(count) + MARGIN + 1, count)]
    final = score + rest[:, None, None]
    return _trace(final, score, on, between, came, intervals)


def _evidence(beat: Floats, downbeat: Floats, per_bar: int) -> tuple[Floats, Floats]:
    """``[T, per_bar]`` log evidence of a beat at each place of the bar; ``[T + 1]`` sums of that of no beat."""
    any_beat = np.clip(_peak(beat), FLOOR, 1 - FLOOR)
    first = np.clip(_peak(downbeat) / np.maximum(_peak(beat), 1e-6), 0.05, 0.95)
    on = np.log(any_beat)[:, None] + np.log(np.column_stack([first, *[1 - first] * (per_bar - 1)]))
    between = np.concatenate([[0.0], np.cumsum(np.log(1 - np.clip(beat, FLOOR, 1 - FLOOR)))])
    return on, between


def _peak(values: Floats) -> Floats:
    """The maximum of each frame and its neighbours: a beat may lie a frame off its interval."""
    padded = np.pad(values, 1)
    return np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])


def _trace(
    final: Floats, score: Floats, on: Floats, between: Floats, came: NDArray[np.int16], intervals: Indices
) -> tuple[float, Indices, Indices]:
    t, position, interval = (int(i) for i in np.unravel_index(int(final.argmax()), final.shape))
    best = float(final.max())
    frames, positions = [t], [position]
    while score[t, position, interval] > on[t, position] + between[max(0, t - MARGIN)]:  # else the path began here
        t -= int(intervals[interval])
        position = (position - 1) % score.shape[1]
        interval = int(came[t, position, interval])
        frames.append(t)
        positions.append(position)
    return best, np.array(frames[::-1]), np.array(positions[::-1])


def _refined(beat: Floats, frames: Indices) -> Floats:
    """Beat times in seconds: the centre of the activation near each beat."""
    places = frames[:, None] + np.arange(-MARGIN, MARGIN + 1)
    weights = beat[np.clip(places, 0, len(beat) - 1)] * ((places >= 0) & (places < len(beat))) + 1e-6
    return np.asarray((places * weights).sum(axis=1) / weights.sum(axis=1) / MEL_RATE)
