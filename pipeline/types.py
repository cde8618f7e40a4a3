"""Values that two or more stages share.

Conventions: times are float seconds from the start of the file; intervals are half-open ``[start, end)``.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
Seconds = float
Label = Literal["intro", "verse", "pre-chorus", "chorus", "bridge", "inst", "outro", "silence"]
"""SongFormer's eight function labels."""


@dataclass(frozen=True, slots=True)
class Audio:
    """PCM audio in memory."""

    samples: Samples  # [channels, samples], full scale is +-1
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        if self.samples.ndim != 2 or self.samples.dtype != np.float32:
            got = f"{self.samples.dtype} {self.samples.shape}"
            raise ValueError(f"samples must be float32 [channels, samples], got {got}")

    @property
    def channels(self) -> int:
        return int(self.samples.shape[0])

    @property
    def length(self) -> int:
        """Samples per channel."""
        return int(self.samples.shape[1])

    @property
    def duration(self) -> Seconds:
        return self.length / self.sample_rate

    def mono(self) -> "Audio":
        """The mean of the channels, one channel."""
        return Audio(self.samples.mean(axis=0, keepdims=True, dtype=np.float32), self.sample_rate)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, ``[start, end)`` in seconds."""

    start: Seconds
    end: Seconds


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a song's form."""

    start: Seconds
    end: Seconds
    label: Label
