"""What SongFormer hears of a song: hidden states of two listeners over long and short windows -> logits per frame.

Conventions: audio is mono at 24 kHz; a listener turns samples ``[B, n]`` into hidden states ``[B, T, width]`` at 25 Hz
(layer 10 of MusicFM and of MuQ). A song goes in stretches of 420 s; in each, both hear it whole and in pieces of 30 s.
What is left of a song below 1025 samples after a whole stretch or piece is not heard.

The released inference never ends where that happens after a stretch, counts one frame too many a stretch, and so calls
the last section of every song beyond 420 s an intro; at a seam it halves a boundary. Here the second stretch begins on
the same frame, 8.333 times 420 rounded down, and a frame that two stretches hear is the mean of both.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.batching import in_batches
from pipeline.structure.songformer.network import LABELS, SongFormer
from pipeline.structure.songformer.segments import DATA_SET, FRAMES

RATE = 24_000  # Hz
STRETCH = 420  # s
PIECE = 30  # s
LEAST = 1024  # samples: no more than these are not heard
APART = 4  # frames by which the four streams may differ in length
BATCH = 14  # pieces at a time: all of a stretch; ours
Listener = Callable[[Tensor], Tensor]  # [B, n] -> [B, T, width]


def logits(network: SongFormer, musicfm: Listener, muq: Listener, samples: Tensor) -> tuple[NDArray[np.float64], ...]:
    """Boundary logits ``[T]`` and function logits ``[T, 128]`` of a whole song of more than 1024 samples."""
    told = []
    for begin, end in stretches(len(samples)):
        boundary, function = of_stretch(network, musicfm, muq, samples[begin:end])
        told.append((int(begin // RATE * FRAMES), boundary, function))
    length = max(first + len(boundary) for first, boundary, _ in told)
    boundaries, functions, heard = np.zeros(length), np.zeros((length, LABELS)), np.zeros(length)
    for first, boundary, function in told:
        frames = slice(first, first + len(boundary))
        boundaries[frames] += boundary
        functions[frames] += function
        heard[frames] += 1
    return boundaries / heard, functions / heard[:, None]


def stretches(length: int) -> list[tuple[int, int]]:
    """``[begin, end)`` in samples."""
    return [span for span in _cut(0, length, STRETCH * RATE) if span[1] - span[0] > LEAST]


def pieces(length: int) -> list[tuple[int, int]]:
    """The same of 30 s within a stretch."""
    return [span for span in _cut(0, length, PIECE * RATE) if span[1] - span[0] > LEAST]


@torch.inference_mode()
def of_stretch(
    network: SongFormer, musicfm: Listener, muq: Listener, samples: Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits of at most 420 s, at most 3500 frames."""
    short = [in_pieces(ears, samples) for ears in (musicfm, muq)]
    streams = fitted([*short, musicfm(samples[None])[0], muq(samples[None])[0]])
    data_set = torch.tensor([DATA_SET], device=streams.device)
    boundary, function = network(streams[None], data_set)
    most = ceil(STRETCH * FRAMES)
    return boundary[0, :most].double().cpu().numpy(), function[0, :most].double().cpu().numpy()


def in_pieces(ears: Listener, samples: Tensor) -> Tensor:
    """``[T, width]`` of a stretch whose pieces were heard apart, in their order."""
    cut = [samples[begin:end] for begin, end in pieces(len(samples))]
    whole = [piece for piece in cut if len(piece) == PIECE * RATE]
    states = in_batches(whole, BATCH, lambda batch: list(ears(torch.stack(list(batch)))), "SongFormer's listeners")
    return torch.cat([*states, *(ears(piece[None])[0] for piece in cut[len(whole) :])])


def fitted(streams: Sequence[Tensor]) -> Tensor:
    """Streams ``[T, width]`` side by side, cut to the shortest."""
    lengths = [len(stream) for stream in streams]
    if max(lengths) - min(lengths) > APART:
        raise ValueError(f"the streams have {lengths} frames; they may differ by {APART}")
    return torch.cat([stream[: min(lengths)] for stream in streams], dim=-1)


def _cut(begin: int, end: int, size: int) -> list[tuple[int, int]]:
    return list(pairwise([*range(begin, end, size), end]))
