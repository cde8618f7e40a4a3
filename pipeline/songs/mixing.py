"""Mixing: tracks and voice -> two stems whose sum is the mix.

Conventions: 48 kHz float32 [2, samples]; dB RMS is measured over the samples that sound.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, oaconvolve, sosfilt

from pipeline.songs.arranger import Track
from pipeline.songs.score import RATE, stream

PEAK = 0.89  # full scale = 1 (-1 dBFS), the highest peak of mix and stems
BAND_RMS = -19.0  # dBFS of the accompaniment before the peak rule, ours
VOICE_OVER_BAND = (1.0, 4.0)  # dB, drawn per song: within what separation is usually tested on, ours
Stereo = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stems:
    """Two stems as 16-bit integers [samples, 2]; the mix is their exact sum."""

    vocal: NDArray[np.int16]
    accompaniment: NDArray[np.int16]

    @property
    def mix(self) -> NDArray[np.int16]:
        return self.vocal + self.accompaniment


def rms(x: NDArray[np.floating]) -> float:
    """RMS over the samples above -50 dB of the peak; 0 for silence."""
    loud = x[np.abs(x) > 3e-3 * np.abs(x).max(initial=0.0)]
    return float(np.sqrt(np.mean(np.square(loud, dtype=np.float64)))) if loud.size else 0.0


def room(seed: int, name: str, seconds: float) -> Stereo:
    """A stereo impulse response, [2, samples], unit energy: noise that dies away, high frequencies first."""
    rng = stream(seed, f"room of the {name}")
    samples = int(seconds * RATE)
    fade = np.exp(-6.9 * np.arange(samples) / samples)
    noise = rng.normal(size=(2, samples)) * fade
    dark = sosfilt(butter(1, 3500, fs=RATE, output="sos"), noise, axis=1)
    response = noise * fade + dark
    response[:, : int(0.008 * RATE)] = 0.0  # pre-delay
    return np.asarray(response / np.sqrt((response**2).sum(axis=1, keepdims=True)), dtype=np.float32)


def wet(x: Stereo, response: Stereo, share: float) -> Stereo:
    """`x` with its reverberation, cut at its own length."""
    tail = oaconvolve(x, response, axes=1)[:, : x.shape[1]]
    return np.asarray((1 - share) * x + share * tail, dtype=np.float32)


def pan(x: NDArray[np.floating], place: float) -> Stereo:
    """Constant-power balance of [2, samples] or [samples]; `place` -1 left .. 1 right."""
    angle = (place + 1) * np.pi / 4
    gains = np.sqrt(2) * np.array([[np.cos(angle)], [np.sin(angle)]])
    return np.asarray(gains * np.atleast_2d(x), dtype=np.float32)


def blend(tracks: tuple[Track, ...], audio: list[Stereo], response: Stereo, share: float) -> Stereo:
    """All instruments at their levels, in one room."""
    total = np.zeros_like(audio[0])
    for track, x in zip(tracks, audio, strict=True):
        level = rms(x)
        if level > 0:
            total += pan(x, track.pan) * np.float32(10 ** (track.level / 20) / level)
    return wet(total, response, share)


def balance(vocal: Stereo, band: Stereo, seed: int) -> Stems:
    """Set the levels, keep every peak below `PEAK`, round to 16 bits."""
    rng = stream(seed, "mix")
    over = float(rng.uniform(*VOICE_OVER_BAND))
    band_gain = 10 ** (BAND_RMS / 20) / rms(band) if rms(band) else 0.0
    vocal_gain = 10 ** ((BAND_RMS + over) / 20) / rms(vocal) if rms(vocal) else 0.0
    stems = [_soften(vocal * vocal_gain), _soften(band * band_gain)]
    peak = max(np.abs(stems[0]).max(), np.abs(stems[1]).max(), np.abs(stems[0] + stems[1]).max(), 1e-9)
    scale = 32767 * min(1.0, PEAK / float(peak))
    rounded = [np.rint(x.T * scale).astype(np.int16) for x in stems]
    return Stems(*rounded)


def _soften(x: NDArray[np.floating]) -> Stereo:
    """Rounds off peaks above 0.5, leaves the rest nearly alone: a bus limiter without memory."""
    knee = 0.45
    size = np.abs(x)
    over = np.maximum(size - knee, 0.0)
    return np.asarray(np.sign(x) * (np.minimum(size, knee) + 0.4 * np.tanh(over / 0.4)), dtype=np.float32)
