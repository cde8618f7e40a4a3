"""Quality by measurement: level, clipping, bandwidth, noise and dynamics, each a physical quantity mapped to 1..5.

Conventions: measured at the file's own rate. Spectra are of the mono mix in frames of 43 ms; bands are sixths of an
octave from 200 Hz up; frames 40 dB below the mean are left out. Digital silence scores 1 throughout.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.quality.stage import Anchors, Quality, QualityConfig
from pipeline.types import Audio, Samples

FRAME_SECONDS = 2048 / 48_000
LOW_HZ = 200.0  # lower edge of the first band
BANDS_PER_OCTAVE = 6
REFERENCE_BANDS = 20  # the first ones, 200 Hz to 2 kHz: where the level of the music is taken
AUDIBLE_DB = -60.0  # a band below this, against the reference, is empty
FLOOR_QUANTILE = 0.05  # of frames, band by band: the floor
FLAT_QUANTILE = 0.999  # of absolute samples: where flat tops lie when there are any
FLAT_WIDTH = 0.03  # relative, to either side
LEVEL_SECONDS, CREST_SECONDS = 0.4, 3.0
ACTIVE = 0.03  # of the loudest block's RMS, 30 dB: quieter blocks don't count

Values = NDArray[np.float64]


def build(config: QualityConfig) -> "SignalRater":
    return SignalRater(config)


class SignalRater:
    name, backend, weights_sha256, licence = "quality", "signal", "", "Apache-2.0"

    def __init__(self, config: QualityConfig) -> None:
        self.config = config

    def __call__(self, audio: Audio) -> Quality:
        names = ("level", "clipping", "bandwidth", "noise", "dynamics")
        if not np.any(audio.samples):
            return Quality(dict.fromkeys(names, 1.0), 1.0)
        c, mono = self.config, audio.mono().samples[0]
        edges, bands = band_powers(mono, audio.sample_rate)
        values = (
            score(level_dbfs(mono, audio.sample_rate), c.level),
            score(math.log(clipped_share(audio.samples) + 1e-9), _logs(c.clipping)),
            score(math.log(bandwidth_hz(edges, bands)), _logs(c.bandwidth)),
            score(noise_db(edges, bands), c.noise),
            score(crest_db(mono, audio.sample_rate), c.dynamics),
        )
        return Quality(dict(zip(names, values, strict=True)), sum(values) / len(values))


def score(value: float, anchors: Anchors) -> float:
    """1..5 on the logistic curve that gives 2 at `poor` and 4 at `good`; monotone, whichever of them is larger."""
    position = (2 * value - anchors.poor - anchors.good) / (anchors.good - anchors.poor)  # -1 at poor, +1 at good
    return 1 + 4 / (1 + math.exp(-math.log(3) * max(-50.0, min(50.0, position))))


def level_dbfs(mono: Samples, sample_rate: int) -> float:
    """RMS of the blocks that aren't silent."""
    power = _block_powers(mono, LEVEL_SECONDS, sample_rate)
    return _decibel(float(np.mean(power[power >= ACTIVE**2 * power.max()])))


def clipped_share(samples: Samples) -> float:
    """Share of samples, 0..1, within 3 % of the 99.9th percentile of the absolute values.

    About .001 or less in six clean recordings; clipping piles samples up there: .008 to .08 at 6 dB over full scale in
    five of the six. Unlike a count of full-scale samples, it still sees a file turned down or encoded after clipping.
    """
    absolute = np.abs(samples).ravel()
    top = float(np.quantile(absolute, FLAT_QUANTILE))
    return float(np.mean(np.abs(absolute - top) <= FLAT_WIDTH * top)) if top > 0 else 0.0


def crest_db(mono: Samples, sample_rate: int) -> float:
    """Median over blocks of peak over RMS."""
    blocks = _blocks(mono, CREST_SECONDS, sample_rate)
    power = np.mean(np.square(blocks, dtype=np.float64), axis=1)
    active = power >= ACTIVE**2 * power.max()
    peaks = np.max(np.square(blocks[active], dtype=np.float64), axis=1)
    return _decibel(float(np.median(peaks / power[active])))


def band_powers(mono: Samples, sample_rate: int) -> tuple[Values, Values]:
    """Lower edges, Hz, and mean powers per bin [frames, bands] of the frames that aren't silent."""
    size = 2 * round(FRAME_SECONDS * sample_rate / 2)
    padded = np.pad(mono, (0, max(0, size - len(mono))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 2]
    spectra = np.fft.rfft(frames * np.hanning(size).astype(np.float32))
    power = (spectra.real**2 + spectra.imag**2).astype(np.float64)
    octaves = math.log2(sample_rate / 2 / LOW_HZ)
    edges = LOW_HZ * 2 ** (np.arange(int(octaves * BANDS_PER_OCTAVE) + 1) / BANDS_PER_OCTAVE)
    bins = np.minimum(np.round(edges * size / sample_rate).astype(int), power.shape[1] - 1)
    widths = np.maximum(np.diff(bins), 1)
    bands = np.add.reduceat(power[:, : bins[-1]], bins[:-1], axis=1) / widths
    total = bands.sum(axis=1)
    return edges[:-1], bands[total >= 1e-4 * total.mean()]


def bandwidth_hz(edges: Values, bands: Values) -> float:
    """Upper edge of the highest band whose mean power is within 60 dB of the music's between 200 Hz and 2 kHz."""
    mean = bands.mean(axis=0)
    heard = np.flatnonzero(mean >= 10 ** (AUDIBLE_DB / 10) * mean[:REFERENCE_BANDS].mean())
    highest = float(edges[heard[-1]]) if heard.size else LOW_HZ
    return highest * 2 ** (1 / BANDS_PER_OCTAVE)


def noise_db(edges: Values, bands: Values) -> float:
    """What each band never falls below, against its mean, summed with weights that rise 3 dB an octave per band.

    Music comes and goes in every band, noise stays; the weight evens out that music is louder at low frequencies.
    White noise 10 dB under the music read -6 to -3 in six recordings, which read -13 to -38 when clean.
    """
    weight = edges**2  # of a mean per bin: once for the band's width, once for the 3 dB
    floor = np.quantile(bands, FLOOR_QUANTILE, axis=0)
    mean = float(np.sum(weight * bands.mean(axis=0)))
    return _decibel(float(np.sum(weight * floor)) / mean) if mean > 0 else 0.0


def _logs(anchors: Anchors) -> Anchors:
    return Anchors(poor=math.log(anchors.poor), good=math.log(anchors.good))


def _blocks(mono: Samples, seconds: float, sample_rate: int) -> Samples:
    size = min(round(seconds * sample_rate), len(mono))
    return mono[: len(mono) // size * size].reshape(-1, size)


def _block_powers(mono: Samples, seconds: float, sample_rate: int) -> Values:
    powers: Values = np.mean(np.square(_blocks(mono, seconds, sample_rate), dtype=np.float64), axis=1)
    return powers


def _decibel(power: float) -> float:
    return 10 * math.log10(max(power, 1e-12))
