"""Long-term spectra of a recording: what its bands hold on average and what they never fall below.

Conventions: mono; frames of 85 ms without overlap under a Hann window, powers per bin; frames 50 dB below the mean are
left out (digital black would read as a perfect floor); bands are sixths of an octave, in Hz; everything is relative to
the recording's own power, so that a gain changes nothing.
"""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from pipeline.types import Samples

FRAME_SECONDS = 4096 / 48_000
LOWEST_HZ = 100.0  # edge of the first band
BANDS_PER_OCTAVE = 6
BLACK = 1e-5  # of the mean frame, -50 dB: digital black, not the floor of the recording
FLOOR_QUANTILE = 0.05  # of a bin's frames
# the 5 % quantile of an exponential distribution (a noise bin's powers) over its mean
FLOOR_BIAS = -math.log(1 - FLOOR_QUANTILE)
VALLEY_QUANTILE = 0.2  # of the bins of a band: between the partials of what sustains
NOISE_FROM_HZ = 8_000.0  # below, reverberation, pads and distorted guitars are as steady as noise
REFERENCE_HZ = (200.0, 2_000.0)  # where the level of the music is taken
AUDIBLE_DB = -60.0  # a band below this, against the reference, is empty
OVER_FLOOR = 2.0  # a band whose mean is less than this times its floor holds noise, not music
WALL_DB = 25.0  # a fall of this much within `WALL_HZ` is a codec's or a resampler's, no instrument's
WALL_HZ = 1_000.0
WALL_FROM_HZ = 4_000.0

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """One recording's long-term spectrum."""

    hertz: Values  # of the bins
    mean: Values  # power of the bins
    floor: Values  # what a bin's power would be if only what is always there were there
    edges: Values  # of the bands, one more than there are bands


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Where a recording ends."""

    hertz: float  # upper edge of the highest band that holds music
    wall: bool  # whether it ends there like a coded or resampled file


def analyse(mono: Samples, sample_rate: int) -> Spectrum:
    """The spectrum of [samples]; needs one sample that isn't zero."""
    size = 2 * round(FRAME_SECONDS * sample_rate / 2)
    padded = np.pad(mono, (0, -len(mono) % size)) if len(mono) < size else mono[: len(mono) // size * size]
    spectra = rfft(padded.reshape(-1, size) * np.hanning(size).astype(np.float32))
    power = np.square(np.abs(spectra))
    total = power.sum(axis=1)
    power = power[total >= BLACK * total.mean()]
    hertz = np.arange(power.shape[1]) * (sample_rate / size)
    octaves = math.log2(sample_rate / 2 / LOWEST_HZ)
    edges = LOWEST_HZ * 2 ** (np.arange(int(octaves * BANDS_PER_OCTAVE) + 1) / BANDS_PER_OCTAVE)
    floor = _low_quantile(power) / FLOOR_BIAS
    return Spectrum(hertz, power.mean(axis=0, dtype=np.float64), floor, edges)


def noise_db(spectrum: Spectrum) -> float:
    """Steady noise from 8 kHz up (or half the band of a low rate) against the whole programme, dB; -120 for none.

    Its level in a band is the valley between partials of what each bin never falls below. It counts by the share of
    the band's mean that it makes up: noise stays, what is played comes and goes.
    """
    total = float(spectrum.mean.sum())
    noise = 0.0
    for mean, floor, bins in _bands(spectrum, min(NOISE_FROM_HZ, float(spectrum.hertz[-1]) / 2)):
        if mean > 0:
            noise += floor * bins * min(1.0, floor / mean)
    return 10 * math.log10(max(noise / total, 1e-12)) if total > 0 else -120.0


def bandwidth(spectrum: Spectrum) -> Bandwidth:
    """Upper edge of the highest band within 60 dB of the music's level that is more than noise; and how it ends."""
    low, high = np.searchsorted(spectrum.hertz, REFERENCE_HZ)
    least = 10 ** (AUDIBLE_DB / 10) * float(spectrum.mean[low : max(high, low + 1)].mean())
    heard = [
        index for index, (mean, floor, _) in enumerate(_bands(spectrum)) if mean >= least and mean >= OVER_FLOOR * floor
    ]
    edge = float(spectrum.edges[heard[-1] + 1]) if heard else LOWEST_HZ
    wall = _wall_hz(spectrum, least)
    return Bandwidth(min(edge, wall), True) if wall < spectrum.hertz[-1] else Bandwidth(edge, False)


def _wall_hz(spectrum: Spectrum, least: float) -> float:
    """The lowest frequency, Hz, at which the audible spectrum falls off a cliff for good; infinite where none is."""
    width = round(WALL_HZ / 2 / spectrum.hertz[1])
    count = len(spectrum.mean) // width
    level = np.median(spectrum.mean[: count * width].reshape(count, width), axis=1)
    centre = (np.arange(count) + 0.5) * width * spectrum.hertz[1]
    for index in range(count - 2):
        after = float(level[index + 2 :].max())
        if centre[index] >= WALL_FROM_HZ and level[index] >= least and after <= 10 ** (-WALL_DB / 10) * level[index]:
            return float(centre[index] + WALL_HZ / 2)
    return math.inf


def _bands(spectrum: Spectrum, from_hz: float = 0.0) -> list[tuple[float, float, int]]:
    """Mean power per bin, valley of the floor, count of bins, of each band whose lower edge is `from_hz` or above."""
    found = []
    bins = np.searchsorted(spectrum.hertz, spectrum.edges)
    for edge, low, high in zip(spectrum.edges, bins[:-1], bins[1:], strict=False):
        if edge >= from_hz:
            part = slice(int(low), max(int(high), int(low) + 1))
            valley = float(np.quantile(spectrum.floor[part], VALLEY_QUANTILE))
            found.append((float(spectrum.mean[part].mean()), valley, part.stop - part.start))
    return found


def _low_quantile(power: NDArray[np.float32]) -> Values:
    """`FLOOR_QUANTILE` of each column, by the nearest rank: a partition instead of numpy's slower interpolation."""
    rank = int(FLOOR_QUANTILE * (len(power) - 1))
    return cast(Values, np.partition(power, rank, axis=0)[rank].astype(np.float64))
