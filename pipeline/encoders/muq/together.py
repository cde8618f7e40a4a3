"""Sounds of unequal length through MuQ's network together, each with the answer that it has alone.

Conventions: a batch's shape follows from each sound's own length and nothing else: a sound is padded to a whole number
of steps, and a batch is made whole with copies. So an answer is the same, bit for bit on one machine, whoever else is
in the batch; padding itself changes it by rounding alone. (Where it stands in the batch changes nothing as long as
widths are multiples of 64, as the published ones are: no row holds what is left over of a CPU's vectors.) A sound of
which one fills a batch is neither padded nor hidden in part: it is heard as the released code hears it.

The convolutions at MuQ's front hear one sound at a time, unpadded. They are 13.7e9 multiplications a second of audio, a
layer of the conformer is 0.6e9: 68 to 78 % of those for 30 s, with ten or six layers. There 30 s are 96,000 places with
512 channels, 3000 tiles of 128 x 128 for the 132 multiprocessors of an H100: a batch would gain nothing, and padding
would cost. In the conformer they are 750 places, 48 such tiles: there a batch fills what one sound leaves idle. All of
it is computed from the published sizes (the multiplications by torch's counter), not timed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor

from pipeline.batching import in_batches
from pipeline.encoders.muq.mel import HOP
from pipeline.encoders.muq.network import FRAME_RATE, MuQ

R = TypeVar("R")
STEP = 10 * FRAME_RATE  # states to whose multiples sounds are padded; ours: 5 s in the mean, few batches half full
Size = Callable[[float], int]  # s of the longest sound of a batch -> sounds in it
Work = Callable[[Tensor, Tensor | None], Sequence[R]]  # states 0 [B, T, D] and which are real [B, T] -> B answers


class Ears(Protocol):
    """MuQ, or MusicFM around it."""

    def front(self, audio: Tensor) -> Tensor:
        """State 0, ``[B, T, D]``, of ``[B, samples]`` at 24 kHz."""


def alone(seconds: float) -> int:
    """The `Size` of a machine where a batch gains nothing, as a CPU."""
    return 1


def together(sounds: Sequence[Tensor], ears: Ears, work: Work[R], size: Size, name: str, step: int = STEP) -> list[R]:
    """`work` on sounds ``[samples]`` of any lengths; its answers in their order."""
    shapes = [shape(states(len(sound)), size, step) for sound in sounds]
    answers: dict[int, R] = {}
    for rows, room in sorted(set(shapes), reverse=True):
        places = [place for place, one in enumerate(shapes) if one == (rows, room)]
        alike = [sounds[place] for place in places]
        told = in_batches(alike, rows, partial(_padded, ears, work, room), name, filled=True)
        answers |= zip(places, told, strict=True)
    return [answers[place] for place in range(len(sounds))]


def heard(
    sounds: Sequence[Tensor], ears: Ears, network: MuQ, layer: int, size: Size, name: str, step: int = STEP
) -> list[Tensor]:
    """Hidden state `layer`, ``[T, D]``, of each of sounds ``[samples]`` of any lengths."""

    def work(first: Tensor, real: Tensor | None) -> list[Tensor]:
        states = network.from_front(first, layer, real)[layer]
        counts = [states.shape[1]] * len(states) if real is None else cast(list[int], real.sum(1).tolist())
        return [row[:count] for row, count in zip(states, counts, strict=True)]

    return together(sounds, ears, work, size, name, step)


def states(samples: int) -> int:
    """How many states so many samples at 24 kHz have."""
    return ceil(ceil(samples // HOP / 2) / 2)


def shape(length: int, size: Size, step: int) -> tuple[int, int]:
    """Sounds in a batch, and states of each, for a sound of `length` states."""
    padded = ceil(length / step) * step
    rows = size(padded / FRAME_RATE)
    return (rows, padded) if rows > 1 else (1, length)


def _padded(ears: Ears, work: Work[R], room: int, batch: Sequence[Tensor]) -> Sequence[R]:
    """The copies that make a batch whole are not heard again at the front."""
    known = {id(sound): sound for sound in batch}
    fronts = {key: ears.front(sound[None])[0] for key, sound in known.items()}
    rows = [fronts[id(sound)] for sound in batch]
    if len(rows) == 1 and len(rows[0]) == room:
        return work(rows[0][None], None)
    first = rows[0].new_zeros(len(rows), room, rows[0].shape[1])
    for place, row in zip(first, rows, strict=True):
        place[: len(row)] = row
    lengths = torch.tensor([len(row) for row in rows], device=first.device)
    return work(first, torch.arange(room, device=first.device) < lengths[:, None])
