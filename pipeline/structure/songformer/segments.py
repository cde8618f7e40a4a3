"""From SongFormer's frames to labelled sections: its peak picking and its rules, as the released inference has them.

Conventions: frames come at 8.333 Hz; times are seconds. A boundary is a frame whose probability is the highest among
its neighbours, the highest within 11.9 s either way, and above the mean of both sides; a section's label is the one of
the highest mean probability among the eight of the Harmonix labelling.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.types import Label, Seconds

FRAMES = 8.333  # a second, as the released configuration rounds it
REACH = int(12 * FRAMES)  # frames a boundary must lead on either side
SHORT = 1.0  # s: a first or last section below it joins its neighbour
JOINED = 10.0  # s: a first or last section up to it joins a neighbour of its label
DATA_SET = 5  # "SongForm-HX-8Class"
OUTPUTS: dict[Label, int] = {  # of the function head
    "intro": 0,
    "verse": 1,
    "chorus": 2,
    "bridge": 3,
    "inst": 4,
    "outro": 5,
    "silence": 6,
    "pre-chorus": 26,
}
Floats = NDArray[np.float64]
Mark = tuple[Seconds, str]  # where a section begins and its label; the last is the end, "end"
END = "end"


def marks(boundary: Floats, function: Floats) -> list[Mark]:
    """Boundary logits ``[T]`` and function logits ``[T, 128]`` -> sections and the end, before the rules."""
    names = list(OUTPUTS)
    chosen = function[:, [OUTPUTS[name] for name in names]]
    likely = np.exp(chosen - chosen.max(axis=1, keepdims=True))
    likely /= likely.sum(axis=1, keepdims=True)
    frames = peaks(1.0 / (1.0 + np.exp(-boundary)))
    cuts = [0, *(int(frame) for frame in frames if frame > 0), len(boundary)]
    told = [(begin / FRAMES, names[int(likely[begin:end].mean(axis=0).argmax())]) for begin, end in pairwise(cuts)]
    return [*told, (len(boundary) / FRAMES, END)]


def peaks(probability: Floats) -> NDArray[np.int64]:
    """Frames of boundaries, ascending."""
    highest = windows(probability, 1, 1, -np.inf).max(axis=1) == probability
    activation = np.where(highest, probability, 0.0)
    leads = (activation == windows(activation, REACH, REACH, 0.0).max(axis=1)) & (activation > 0)
    around = windows(activation, REACH, REACH, 0.0)
    sides = (around[:, :REACH].mean(axis=1) + around[:, REACH + 1 :].mean(axis=1)) / 2
    return np.flatnonzero(leads & (activation > sides))


def windows(values: Floats, before: int, after: int, filler: float) -> Floats:
    """``[T, before + 1 + after]``: every value with its neighbours."""
    padded = np.pad(values, (before, after), constant_values=filler)
    return np.asarray(sliding_window_view(padded, before + 1 + after))


def ruled(told: Sequence[Mark]) -> list[Mark]:
    """The rules of the released inference for the first and the last section; at least one section stays."""
    result = list(told)
    while len(result) > 2 and result[1][0] - result[0][0] < SHORT:
        result = [(result[0][0], result[1][1]), *result[2:]]
    while len(result) > 2 and result[-1][0] - result[-2][0] < SHORT:
        result = [*result[:-2], result[-1]]
    while len(result) > 2 and result[0][1] == result[1][1] and result[1][0] <= JOINED:
        result = [result[0], *result[2:]]
    while len(result) > 2 and result[-2][1] == result[-3][1] and result[-1][0] - result[-2][0] <= JOINED:
        result = [*result[:-2], result[-1]]
    return result


assert set(OUTPUTS) == set(get_args(Label))
