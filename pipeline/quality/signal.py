"""Quality by measurement: level, clipping, bandwidth, noise and hum, each a physical quantity mapped to 1..5.

Conventions: measured at the file's own rate. Only the level depends on the gain. Digital silence scores 1 throughout.
The mean is a power mean with a negative exponent: monotone in every score, the common value where all are equal, and
close to the worst where they aren't, since a recording that hums isn't mended by its bandwidth.
"""

import math
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from pipeline.quality.hum import hum_db
from pipeline.quality.spectrum import Bandwidth, analyse, bandwidth, noise_db
from pipeline.quality.stage import Anchors, Quality, QualityConfig
from pipeline.types import Audio, Samples

PEAK_WIDTH = 0.995  # of the peak; 39 clean recordings have up to 2e-5 of their samples above it
FLAT_QUANTILE = 0.999  # of absolute samples: where rippled flat tops lie
FLAT_WIDTH = 0.03  # relative, to either side
USUAL_SHARE = 0.002  # of samples there without clipping; 39 clean recordings have up to .0015
LEVEL_SECONDS = 0.4
ACTIVE = 0.03  # of the loudest block's RMS, 30 dB: quieter blocks don't count
NAMES = ("level", "clipping", "bandwidth", "noise", "hum")


def build(config: QualityConfig) -> "SignalRater":
    return SignalRater(config)


class SignalRater:
    name, backend, weights_sha256, licence = "quality", "signal", "", "Apache-2.0"

    def __init__(self, config: QualityConfig) -> None:
        self.config = config

    def __call__(self, audio: Audio) -> Quality:
        mono = audio.mono().samples[0]
        if not np.any(mono):  # or the channels cancel: nothing that a mono measurement could hear
            return Quality(dict.fromkeys(NAMES, 1.0), 1.0)
        c, spectrum = self.config, analyse(mono, audio.sample_rate)
        values = (
            score(level_dbfs(mono, audio.sample_rate), c.level),
            score(math.log(clipped_share(audio.samples) + 1e-7), _logs(c.clipping)),
            self._bandwidth_score(bandwidth(spectrum)),
            score(noise_db(spectrum), c.noise),
            score(hum_db(mono, audio.sample_rate), c.hum),
        )
        return Quality(dict(zip(NAMES, values, strict=True)), power_mean(values, c.exponent))

    def _bandwidth_score(self, width: Bandwidth) -> float:
        """Music may be dull by itself; where a wall cuts it off, more than that is missing."""
        return score(math.log(width.hertz), _logs(self.config.coded if width.wall else self.config.bandwidth))


def score(value: float, anchors: Anchors) -> float:
    """1..5 on the logistic curve that gives 2 at `poor` and 4 at `good`; monotone, whichever of them is larger."""
    position = (2 * value - anchors.poor - anchors.good) / (anchors.good - anchors.poor)  # -1 at poor, +1 at good
    return 1 + 4 / (1 + math.exp(-math.log(3) * max(-50.0, min(50.0, position))))


def power_mean(values: Collection[float], exponent: float) -> float:
    """``(mean of x^p)^(1/p)`` of positive values; with p far below 0 close to the smallest."""
    mean = sum(value**exponent for value in values) / len(values)
    return float(mean ** (1 / exponent))


def level_dbfs(mono: Samples, sample_rate: int) -> float:
    """RMS of the blocks that aren't silent."""
    power = _block_powers(mono, sample_rate)
    return 10 * math.log10(max(float(np.mean(power[power >= ACTIVE**2 * power.max()])), 1e-12))


def clipped_share(samples: Samples) -> float:
    """Share of samples, 0..1, on flat tops: within 0.5 % of the peak.

    An encoder or a resampler makes flat tops ripple and the peak overshoot. Then they still lie together somewhere
    below: within 3 % of the 99.9th percentile, where what exceeds the share that every recording has is counted.
    """
    absolute = np.abs(samples).ravel()
    peak = float(absolute.max(initial=0.0))
    rank = int(FLAT_QUANTILE * (absolute.size - 1))
    top = float(np.partition(absolute, rank)[rank])
    at_peak = np.count_nonzero(absolute >= PEAK_WIDTH * peak) / absolute.size
    rippled = np.count_nonzero(np.abs(absolute - top) <= FLAT_WIDTH * top) / absolute.size
    return max(at_peak, rippled - USUAL_SHARE) if peak > 0 else 0.0


def _block_powers(mono: Samples, sample_rate: int) -> NDArray[np.float64]:
    size = min(round(LEVEL_SECONDS * sample_rate), len(mono))
    blocks = mono[: len(mono) // size * size].reshape(-1, size)
    powers: NDArray[np.float64] = np.mean(np.square(blocks, dtype=np.float64), axis=1)
    return powers


def _logs(anchors: Anchors) -> Anchors:
    return Anchors(poor=math.log(anchors.poor), good=math.log(anchors.good))
