"""Songs -> training batches. Every draw is a pure function of (seed, stage, sample number).

Conventions: ``B`` rows, ``T`` codes of the crop, ``P`` = 2 prefix slots (text, reference), ``W`` prefix width. Sample
numbers count the rows that a stage has drawn since it began, over all processes and accumulation steps: worker count,
process count and restarts change no draw. Songs come in a new permutation each epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import PAD, VOCAL_PAD, ObjectiveConfig
from model.crops import CropMode, check_mode, draw
from model.masking import draw_masks
from model.schedule import clamp_ratios, generator, mask_ratios
from pipeline.audio import to_samples
from pipeline.codec.codec import SAMPLE_RATE
from pipeline.records.schema import Sample, SampleInfo

TEXT, REFERENCE = 0, 1  # prefix slots
ORDER, CONTENT = 0, 1  # streams of random numbers that must not disturb one another


@dataclass(frozen=True, slots=True)
class Drawing:
    """How rows are drawn in one stage."""

    seed: int
    stage: int  # index in the recipe
    crop_tokens: int
    crop_mode: CropMode
    condition_dropout: float  # share of rows, text and reference independently
    latents: bool = False  # rows carry the codec's latents too


@dataclass(frozen=True, slots=True)
class Row:
    """One row before masking, `length` valid codes of T."""

    key: str
    start: int  # code of the song that it begins with
    length: int
    vocal_T: NDArray[np.int64]
    accompaniment_T: NDArray[np.int64]
    prefix_PW: NDArray[np.float32]
    dropped_P: NDArray[np.bool_]
    reference_impossible: bool
    vocal_latent_TL: NDArray[np.float32] | None = None  # zero beyond the end, as the other
    accompaniment_latent_TL: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    vocal_BT: Tensor  # int64
    accompaniment_BT: Tensor  # int64, uncorrupted
    prefix_BPW: Tensor  # float32
    dropped_BP: Tensor  # bool: the slot holds the null vector
    valid_BT: Tensor  # bool
    mask_BT: Tensor  # bool, masked codes; never a pad
    ratio_B: Tensor  # float64, the mask ratio t of each row
    padded: bool  # whether any code is not valid
    row_seeds: tuple[str, ...]  # of whatever else a row draws (replaced tokens)
    keys: tuple[str, ...]
    reference_impossible: int  # rows
    vocal_latent_BTL: Tensor | None = None  # float32; of `kind: flow`
    accompaniment_latent_BTL: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        given = {name: getattr(self, name) for name in (*_TENSORS, *_LATENTS)}
        return replace(self, **{name: x.to(device, non_blocking=True) for name, x in given.items() if x is not None})


_TENSORS = ("vocal_BT", "accompaniment_BT", "prefix_BPW", "dropped_BP", "valid_BT", "mask_BT", "ratio_B")
_LATENTS = ("vocal_latent_BTL", "accompaniment_latent_BTL")


class RowSource:
    """Rows of one stage from one split's songs. `BadInput` for a crop mode that the shards' codec can't serve."""

    def __init__(self, samples: Sequence[Sample], drawing: Drawing) -> None:
        if not samples:
            raise ValueError("no songs to draw from: the split is empty")
        check_mode(drawing.crop_mode, samples[0].info.codec)
        self.samples, self.drawing = samples, drawing

    def row(self, number: int) -> Row:
        d = self.drawing
        sample = self.samples[song_index(d.seed, d.stage, number, len(self.samples))]
        return make_row(sample, d, np.random.default_rng((d.seed, d.stage, CONTENT, number)))


@dataclass(frozen=True, slots=True)
class Slicing:
    """Which sample numbers the micro-batches of one process hold, and how they are masked."""

    first: int  # sample number, within the stage, of the first row after a start or restart
    stream_offset: int  # rows that earlier stages drew: the stage's place in the global Sobol stream
    batch_size: int  # rows
    rank: int
    processes: int
    objective: ObjectiveConfig

    def numbers(self, micro_batch: int) -> range:
        start = self.first + (micro_batch * self.processes + self.rank) * self.batch_size
        return range(start, start + self.batch_size)


class MicroBatches(torch.utils.data.Dataset[Batch]):
    """Micro-batch i of one process, counted from where training (re)started. Any worker can make any one."""

    def __init__(self, source: RowSource, slicing: Slicing) -> None:
        self.source, self.slicing = source, slicing

    def __getitem__(self, index: int) -> Batch:
        s, d = self.slicing, self.source.drawing
        numbers = s.numbers(index)
        start = s.stream_offset + numbers.start
        ratio_B = mask_ratios(d.seed, start, len(numbers), s.objective.mask_schedule)
        row_seeds = tuple(f"{d.seed} {d.stage} {number}" for number in numbers)
        return collate([self.source.row(n) for n in numbers], ratio_B, row_seeds, s.objective)


def song_index(seed: int, stage: int, number: int, songs: int) -> int:
    """The song of sample `number`: place ``number % songs`` in the permutation of epoch ``number // songs``."""
    epoch, place = divmod(number, songs)
    return int(_permutation(seed, stage, epoch, songs)[place])


def make_row(sample: Sample, drawing: Drawing, rng: np.random.Generator) -> Row:
    """Crop, variants, caption, reference window and condition dropout of one row."""
    info, T = sample.info, drawing.crop_tokens
    crop = draw(info.tokens, reference_samples(info), T, drawing.crop_mode, info.codec, rng)
    span = slice(crop.start, crop.start + crop.length)
    played, heard = pick_variant(len(sample.accompaniment), rng), pick_variant(len(sample.reference), rng)
    text = sample.text[rng.integers(len(sample.text))] if len(sample.text) else None
    reference = sample.reference[heard, rng.choice(crop.references)] if crop.references else None
    dropped_P = rng.random(2) < drawing.condition_dropout
    return Row(
        key=info.key,
        start=crop.start,
        length=crop.length,
        vocal_T=_padded(sample.vocal[crop.phase, span], T, VOCAL_PAD),
        accompaniment_T=_padded(sample.accompaniment[played, crop.phase, span], T, PAD),
        prefix_PW=prefix(text, reference, sample.text.shape[1]),
        dropped_P=dropped_P | np.array([text is None, reference is None]),
        reference_impossible=reference is None,
        vocal_latent_TL=_latent(sample.latents["vocal"][crop.phase, span], T) if drawing.latents else None,
        accompaniment_latent_TL=_latent(sample.latents["accompaniment"][played, crop.phase, span], T)
        if drawing.latents
        else None,
    )


def pick_variant(count: int, rng: np.random.Generator) -> int:
    """Variant 0 if it is alone; else one of 1..V, whose filters were already drawn with the recipe's probability."""
    return int(rng.integers(1, count)) if count > 1 else 0


def reference_samples(info: SampleInfo) -> list[tuple[int, int]]:
    """The stored reference windows as samples at 48 kHz."""
    return [(to_samples(a, SAMPLE_RATE), to_samples(b, SAMPLE_RATE)) for a, b in info.reference_spans]


def prefix(
    text: NDArray[np.floating] | None, reference: NDArray[np.floating] | None, width: int
) -> NDArray[np.float32]:
    """Prefix vectors ``[2, W]``; a missing one is zero (its slot must be marked as dropped)."""
    vectors = np.zeros((2, width), np.float32)
    for slot, vector in ((TEXT, text), (REFERENCE, reference)):
        if vector is not None:
            vectors[slot] = vector
    return vectors


def collate(rows: Sequence[Row], ratio_B: Tensor, row_seeds: tuple[str, ...], objective: ObjectiveConfig) -> Batch:
    """Rows and their unclamped mask ratios -> tensors, masked from each row's own seed."""
    lengths_B = torch.tensor([row.length for row in rows])
    valid_BT = torch.arange(len(rows[0].vocal_T))[None] < lengths_B[:, None]
    ratio_B = clamp_ratios(ratio_B, lengths_B, objective.min_ratio)
    return Batch(
        vocal_BT=torch.from_numpy(np.stack([row.vocal_T for row in rows])),
        accompaniment_BT=torch.from_numpy(np.stack([row.accompaniment_T for row in rows])),
        prefix_BPW=torch.from_numpy(np.stack([row.prefix_PW for row in rows])),
        dropped_BP=torch.from_numpy(np.stack([row.dropped_P for row in rows])),
        valid_BT=valid_BT,
        mask_BT=draw_masks(
            valid_BT,
            ratio_B,
            [generator(seed, "mask") for seed in row_seeds],
            objective.corruption,
            objective.span_frames,
        ),
        ratio_B=ratio_B,
        padded=not bool(valid_BT.all()),
        row_seeds=row_seeds,
        keys=tuple(row.key for row in rows),
        reference_impossible=sum(row.reference_impossible for row in rows),
        vocal_latent_BTL=_stacked([row.vocal_latent_TL for row in rows]),
        accompaniment_latent_BTL=_stacked([row.accompaniment_latent_TL for row in rows]),
    )


@lru_cache(maxsize=4)
def _permutation(seed: int, stage: int, epoch: int, songs: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, stage, ORDER, epoch)).permutation(songs)


def _padded(codes: NDArray[np.uint16], length: int, pad: int) -> NDArray[np.int64]:
    row = np.full(length, pad, np.int64)
    row[: len(codes)] = codes
    return row


def _latent(latent: NDArray[np.float16], length: int) -> NDArray[np.float32]:
    row = np.zeros((length, latent.shape[1]), np.float32)
    row[: len(latent)] = latent
    return row


def _stacked(rows: Sequence[NDArray[np.float32] | None]) -> Tensor | None:
    """One tensor of all rows; None where they carry none."""
    given = [row for row in rows if row is not None]
    return torch.from_numpy(np.stack(given)) if given else None
