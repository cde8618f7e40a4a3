"""Is a copy sung in tune? Its pitch against that of the original, frame by frame.

Conventions: pitch by swift-f0 (16 ms frames, 47 to 2094 Hz), which gives each frame a confidence 0..1 and calls it
voiced from 0.5 on. Where several voices sound at once it is not confident, so such frames are not judged.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.codec.mel import SAMPLE_RATE

Wave = NDArray[np.float32]
CENTS = 50.0  # within which a frame is in tune; half a semitone
SURE = 0.9  # confidence above which a frame of the original is judged
VOICED = 0.5  # confidence from which a frame of the copy is sung; swift-f0's own


def in_tune(original: Wave, copy: Wave) -> float:
    """Share of the original's surely sung frames that are sung in the copy within `CENTS`, 0..1.

    Both are ``[N]`` at 24 kHz and a solo voice; NaN where the original has no such frame.
    """
    (pitch, sure), (copied, voiced) = _track(original), _track(copy)
    frames = min(len(pitch), len(copied))
    sung = sure[:frames] > SURE
    if not sung.any():
        return float("nan")
    cents = 1200 * np.abs(np.log2(copied[:frames] / pitch[:frames]))
    return float(np.mean((voiced[:frames] >= VOICED)[sung] & (cents[sung] <= CENTS)))


def _track(wave: Wave) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pitch in Hz and confidence of each frame."""
    found = _detector().detect(wave, SAMPLE_RATE)
    return found.pitch_hz, found.confidence


@cache
def _detector() -> Any:
    """One thread, so that the same wave gives the same numbers whatever else the process does."""
    from swift_f0 import SwiftF0  # brings onnxruntime; only who evaluates waits for it

    return SwiftF0(threads=1, spin=False)
