"""Demucs on the segments of several songs at once: what its own `apply_model` does to one song after the other.

Its API takes one song, or several of one length, and hears their segments one by one. Here those of all songs fill
batches; how a song is cut, padded and faded together is its rule, to the last bit where a batch is one segment.

Conventions: songs are ``[2, samples]`` at the model's rate; of the sources the vocal alone is kept. No random shifts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from demucs.apply import BagOfModels, TensorChunk
from demucs.utils import center_trim
from torch import Tensor

from pipeline.batching import in_batches

Chunk: Any = TensorChunk  # it has no types: a piece of a song that knows what lies beside it
QUIET = 1e-8  # beside the deviation, by which a song is divided; Demucs' API


@dataclass(frozen=True, slots=True)
class Member:
    """One network of a bag, and how much its vocal counts."""

    network: Any  # Demucs, HDemucs or HTDemucs: `segment` in s, `samplerate`, `sources`
    weight: float

    @property
    def segment(self) -> int:
        """Samples."""
        return int(self.network.samplerate * self.network.segment)

    def padded(self, length: int) -> int:
        """How long a piece of that length must be for the network."""
        return int(self.network.valid_length(length)) if hasattr(self.network, "valid_length") else length


def members(model: Any) -> list[Member]:
    """The networks of a bag that count for the vocal; a model that is none is a bag of one."""
    if not isinstance(model, BagOfModels):
        return [Member(model, 1.0)]
    vocal = model.sources.index("vocals")
    weights = [float(weights[vocal]) for weights in model.weights]
    return [Member(one, weight) for one, weight in zip(model.models, weights, strict=True) if weight]


def vocals(bag: Sequence[Member], songs: Sequence[Tensor], overlap: float, at_once: int, device: str) -> list[Tensor]:
    """The vocal ``[2, n]`` of each song ``[2, n]``; `overlap` is a part of a segment."""
    scales = [(song.mean(0).mean(), song.mean(0).std() + QUIET) for song in songs]
    mixes = [((song - mean) / deviation)[None] for song, (mean, deviation) in zip(songs, scales, strict=True)]
    totals = [torch.zeros_like(song) for song in songs]
    for member in bag:
        for total, vocal in zip(totals, _of_member(member, mixes, overlap, at_once, device), strict=True):
            total += vocal * member.weight
    weight = sum(member.weight for member in bag)
    return [total / weight * deviation + mean for total, (mean, deviation) in zip(totals, scales, strict=True)]


def _of_member(member: Member, mixes: Sequence[Tensor], overlap: float, at_once: int, device: str) -> Iterator[Tensor]:
    """``[2, n]`` of each song ``[1, 2, n]``. What is shorter than others once it is padded goes alone."""
    network, vocal = member.network, member.network.sources.index("vocals")
    starts = [range(0, mix.shape[-1], int((1 - overlap) * member.segment)) for mix in mixes]
    chunks = [[Chunk(mix, s, member.segment) for s in begins] for mix, begins in zip(mixes, starts, strict=True)]
    usual = member.padded(member.segment)

    def heard(pieces: Sequence[Any]) -> list[Tensor]:
        batch = torch.cat([piece.padded(member.padded(piece.length)) for piece in pieces]).to(device)
        answers = network(batch)[:, vocal]
        return [center_trim(answer, piece.length).cpu() for answer, piece in zip(answers, pieces, strict=True)]

    def of_length(whole: bool) -> Iterator[Any]:
        return (chunk for song in chunks for chunk in song if (member.padded(chunk.length) == usual) is whole)

    alike = iter(in_batches(of_length(True), at_once, heard, "Demucs", filled=True))
    shorter = iter(in_batches(of_length(False), 1, heard, "Demucs"))
    for mix, begins, song in zip(mixes, starts, chunks, strict=True):
        answers = [next(alike if member.padded(chunk.length) == usual else shorter) for chunk in song]
        yield _faded(answers, begins, member.segment, mix.shape[-1])


def _faded(answers: Sequence[Tensor], starts: Sequence[int], segment: int, length: int) -> Tensor:
    """One song of its segments, which count more the nearer to their middle."""
    rising = torch.arange(1, segment // 2 + 1)
    falling = torch.arange(segment - segment // 2, 0, -1)
    triangle = torch.cat([rising, falling])
    weight = triangle / triangle.max()
    total, weights = torch.zeros(2, length), torch.zeros(length)
    for answer, start in zip(answers, starts, strict=True):
        share = weight[: answer.shape[-1]]
        total[:, start : start + segment] += share * answer
        weights[start : start + segment] += share
    return total / weights
