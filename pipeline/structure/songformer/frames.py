"""What SongFormer hears of songs: hidden states of two listeners over long and short windows -> logits per frame.

Conventions: audio is mono at 24 kHz; a listener turns sounds ``[n]`` of any lengths into hidden states ``[T, width]``
at 25 Hz (layer 10 of MusicFM and of MuQ), and hears those of several songs together where a batch gains time. A song
goes in stretches of 420 s; in each, both hear it whole and in pieces of 30 s. What is left of a song below 1025 samples
after a whole stretch or piece is not heard. SongFormer itself takes one stretch at a time: it is half a percent of the
work (computed).

The released inference never ends where that happens after a stretch, counts one frame too many a stretch, and so calls
the last section of every song beyond 420 s an intro; at a seam it halves a boundary. Here the second stretch begins on
the same frame, 8.333 times 420 rounded down, and a frame that two stretches hear is the mean of both.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.structure.songformer.network import LABELS, SongFormer
from pipeline.structure.songformer.segments import DATA_SET, FRAMES

RATE = 24_000  # Hz
STRETCH = 420  # s
PIECE = 30  # s
LEAST = 1024  # samples: no more than these are not heard
APART = 4  # frames by which the four streams may differ in length
Floats = NDArray[np.float64]


class Listener(Protocol):
    def __call__(self, sounds: Sequence[Tensor], pieces: bool) -> list[Tensor]:
        """States ``[T, width]`` of each; `pieces`: no sound is longer than 30 s, and most are as long."""


def logits(
    network: SongFormer, musicfm: Listener, muq: Listener, songs: Sequence[Tensor]
) -> list[tuple[Floats, Floats]]:
    """Boundary logits ``[T]`` and function logits ``[T, 128]`` of each whole song ``[n]`` of more than 1024 samples."""
    spans = [stretches(len(song)) for song in songs]
    cut = [song[begin:end] for song, own in zip(songs, spans, strict=True) for begin, end in own]
    told = (of_stretch(network, streams) for streams in heard(musicfm, muq, cut))
    return [joined([(int(begin // RATE * FRAMES), *next(told)) for begin, _ in own]) for own in spans]


def joined(told: Sequence[tuple[int, Floats, Floats]]) -> tuple[Floats, Floats]:
    """First frame and logits of each stretch of a song -> the song's."""
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
def heard(musicfm: Listener, muq: Listener, cut: Sequence[Tensor]) -> list[Tensor]:
    """The four streams of each stretch, side by side."""
    short = [in_pieces(ears, cut) for ears in (musicfm, muq)]
    long = [ears(cut, pieces=False) for ears in (musicfm, muq)]
    return [fitted(streams) for streams in zip(*short, *long, strict=True)]


@torch.inference_mode()
def of_stretch(network: SongFormer, streams: Tensor) -> tuple[Floats, Floats]:
    """Logits of at most 420 s, at most 3500 frames."""
    data_set = torch.tensor([DATA_SET], device=streams.device)
    boundary, function = network(streams[None], data_set)
    most = ceil(STRETCH * FRAMES)
    return boundary[0, :most].double().cpu().numpy(), function[0, :most].double().cpu().numpy()


def in_pieces(ears: Listener, cut: Sequence[Tensor]) -> list[Tensor]:
    """``[T, width]`` of each stretch, its pieces heard apart and put in their order."""
    spans = [pieces(len(samples)) for samples in cut]
    sounds = [samples[begin:end] for samples, own in zip(cut, spans, strict=True) for begin, end in own]
    states = iter(ears(sounds, pieces=True))
    return [torch.cat([next(states) for _ in own]) for own in spans]


def fitted(streams: Sequence[Tensor]) -> Tensor:
    """Streams ``[T, width]`` side by side, cut to the shortest."""
    lengths = [len(stream) for stream in streams]
    if max(lengths) - min(lengths) > APART:
        raise ValueError(f"the streams have {lengths} frames; they may differ by {APART}")
    return torch.cat([stream[: min(lengths)] for stream in streams], dim=-1)


def _cut(begin: int, end: int, size: int) -> list[tuple[int, int]]:
    return list(pairwise([*range(begin, end, size), end]))
