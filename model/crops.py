"""Which stretch of a song one training row sees, and which reference windows may stand beside it. Pure, numpy only.

Conventions: starts and lengths are codes (25 Hz); reference spans and extents are samples at 48 kHz, half-open; windows
of phase f of a codec with windows begin at code ``f * window_tokens // phases + k * window_tokens``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.codec.codec import SAMPLES_PER_CODE
from pipeline.errors import BadInput
from pipeline.records.schema import CodecRecord

CropMode = Literal["encoded_windows", "slice"]
Starts = NDArray[np.int64]  # [N, 2]: phase, first code


@dataclass(frozen=True, slots=True)
class Crop:
    phase: int
    start: int  # code
    length: int  # codes, <= the crop's nominal length
    references: tuple[int, ...]  # reference windows that share no sample with the crop; empty = reference impossible


def check_mode(mode: CropMode, codec: CodecRecord) -> None:
    """`BadInput` (`crop_mode`) where the mode can't give what the codec would have made of the crop itself.

    A slice of codes equals the codes of the cut audio, but for ``context_frames`` at either edge, only for codecs
    without windows: elsewhere a code depends on where its window began.
    """
    if mode == "slice" and codec.window_tokens > 0:
        raise BadInput(
            f"crop_mode 'slice' with a codec of {codec.window_tokens}-code windows would train on codes that no "
            "encoder gives; set training.crop_mode: encoded_windows",
            "crop_mode",
        )
    if mode == "encoded_windows" and codec.window_tokens == 0:
        raise BadInput(
            "crop_mode 'encoded_windows' needs a codec with windows, this one has none; set training.crop_mode: slice",
            "crop_mode",
        )


def starts(tokens: int, crop_tokens: int, mode: CropMode, codec: CodecRecord) -> Starts:
    """All (phase, start) that a crop of a song of `tokens` codes may have; a song that is too short has one, (0, 0)."""
    last = max(0, tokens - crop_tokens)
    if mode == "slice":
        return np.stack([np.zeros(last + 1, np.int64), np.arange(last + 1)], axis=1)
    grids = [
        (phase, start)
        for phase in range(codec.phases)
        for start in range(phase * codec.window_tokens // codec.phases, last + 1, codec.window_tokens)
    ]
    return np.array(grids, np.int64)


def extents(begin: Starts, length: int, mode: CropMode, codec: CodecRecord) -> NDArray[np.int64]:
    """Samples that reached each crop's codes, ``[N, 2]``: its own stretch and the codec's margin or whole windows."""
    if mode == "slice":
        margin = codec.context_frames
        first = np.maximum(0, begin[:, 1] - margin) * SAMPLES_PER_CODE
        return np.stack([first, (begin[:, 1] + length + margin) * SAMPLES_PER_CODE], axis=1)
    offset = begin[:, 0] * codec.window_tokens // codec.phases
    window = (begin[:, 1] - offset) // codec.window_tokens
    first = begin[:, 0] * codec.hop_samples // codec.phases + window * codec.hop_samples
    return np.stack([first, first - (-length // codec.window_tokens) * codec.hop_samples], axis=1)


def free_windows(extent: NDArray[np.int64], references: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """``[N, R]``: whether reference window r shares no sample with extent n."""
    spans = np.array(references, np.int64).reshape(-1, 2)
    return (spans[None, :, 1] <= extent[:, 0, None]) | (spans[None, :, 0] >= extent[:, 1, None])


def draw(
    tokens: int,
    references: Sequence[tuple[int, int]],
    crop_tokens: int,
    mode: CropMode,
    codec: CodecRecord,
    rng: np.random.Generator,
) -> Crop:
    """One crop, uniform over the starts that leave a whole reference window outside it, or over all where none does."""
    begin = starts(tokens, crop_tokens, mode, codec)
    length = min(crop_tokens, tokens)
    free = free_windows(extents(begin, length, mode, codec), references)
    usable = np.flatnonzero(free.any(axis=1))
    chosen = int(rng.choice(usable)) if usable.size else int(rng.integers(len(begin)))
    phase, start = (int(x) for x in begin[chosen])
    return Crop(phase, start, length, tuple(int(r) for r in np.flatnonzero(free[chosen])))
