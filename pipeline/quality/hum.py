"""Mains hum: lines at the multiples of 50 or 60 Hz that never go away.

Conventions: mono at any rate, taken down to about 2 kHz; blocks of 1 s, half overlapped, under a Blackman window; a
line's power is that of a sine, so that it compares with the power of the whole recording. Hum has partials: a line
that stands alone is a bass that holds its note.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft
from scipy.signal import resample_poly

from pipeline.types import Samples

MAINS_HZ = (50.0, 60.0)
PARTIALS = 7
LOW_RATE = 2_000.0  # Hz, about: twice the seventh partial of 60 Hz and room for the filter
BLOCK_SECONDS = 1.0
PADDING = 2  # times the block: bins of 0.5 Hz
LINE_HZ = 0.6  # to either side: a mains frequency drifts by 0.2 Hz, its seventh partial by more, a deck's speed too
ASIDE_HZ = (5.0, 10.0)  # to either side, where the line's neighbours are: beyond the window's main lobe
OVER_NEIGHBOURS = 4.0  # power; a line that isn't this much above its neighbours is none
ALWAYS = 0.1  # quantile of the blocks: a bass note is at rest in one of ten
LEAST_BLOCKS = 6  # fewer can't tell hum from a note that is held

Values = NDArray[np.float64]


def hum_db(mono: Samples, sample_rate: int) -> float:
    """Power of the hum against that of the whole recording, dB; -120 for none, or where it is too short to tell."""
    always = _always(mono, sample_rate)
    total = float(np.mean(np.square(mono, dtype=np.float64)))
    if always is None or total <= 0:
        return -120.0
    power, step = always
    loudest = max(_partials(power, step, mains) for mains in MAINS_HZ)
    return 10 * math.log10(max(loudest / total, 1e-12))


def _partials(power: Values, step: float, mains: float) -> float:
    """Power of the lines of one mains frequency; the strongest counts no more than the others together."""
    lines = [_line(power, step, n * mains) for n in range(1, PARTIALS + 1)]
    return min(sum(lines), 2 * (sum(lines) - max(lines)))


def _always(mono: Samples, sample_rate: int) -> tuple[Values, float] | None:
    """What each bin never falls below, as the power of a sine, and the bins' distance, Hz; None if too short."""
    down = max(1, int(sample_rate / LOW_RATE))
    low = resample_poly(mono, 1, down)
    size = round(BLOCK_SECONDS * sample_rate / down)
    if len(low) < size * (LEAST_BLOCKS + 1) // 2:
        return None
    window = np.blackman(size).astype(np.float32)
    blocks = np.lib.stride_tricks.sliding_window_view(low, size)[:: size // 2]
    power = np.square(np.abs(rfft(blocks * window, n=PADDING * size))) * (2 / float(window.sum()) ** 2)
    rank = int(ALWAYS * (len(power) - 1))
    return np.partition(power, rank, axis=0)[rank].astype(np.float64), sample_rate / down / (PADDING * size)


def _line(power: Values, step: float, hertz: float) -> float:
    """Power of the line at a frequency, less what its neighbours would explain."""
    line = float(power[_bins(hertz - LINE_HZ, hertz + LINE_HZ, step)].max())
    near, far = ASIDE_HZ
    aside = np.concatenate(
        [power[_bins(hertz - far, hertz - near, step)], power[_bins(hertz + near, hertz + far, step)]]
    )
    return max(0.0, line - OVER_NEIGHBOURS * float(np.quantile(aside, 0.75)))


def _bins(low: float, high: float, step: float) -> slice:
    return slice(math.ceil(low / step), math.floor(high / step) + 1)
