"""What the structure networks hear: a mel spectrogram for beats and timbre, a semitone spectrogram for harmony.

Conventions: mono at 22,050 Hz; log power in dB over the song's own floor, so that loudness in the file changes nothing;
arrays are ``[frames, bands]`` float32, mel at 50 and pitch at 10 frames a second; frame i is centred on ``i / rate``
seconds. Numpy transforms only: nothing here is compiled at run time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audio import resample
from pipeline.types import Audio, Seconds

SAMPLE_RATE = 22_050  # Hz
MEL_RATE, MEL_HOP, MEL_WINDOW = 50, 441, 2048  # frames a second, samples, samples (93 ms)
PITCH_RATE, PITCH_HOP, PITCH_WINDOW = 10, 2205, 8192  # 372 ms: semitones are apart from C2 (65 Hz) on
BANDS = 64
LOWEST, HIGHEST = 30.0, 11_000.0  # Hz, edges of the mel bands
LOW_NOTE, NOTES = 28, 69  # MIDI E1 (41 Hz) to C7
FLOOR_DB = -80.0  # under the loudest cell
SCALE_DB = 20.0  # dB that the networks see as 1
CHUNK = 512  # frames transformed at once; bounds memory
SHARPNESS = 0.35  # semitones, width of a note's filter

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Spectra:
    """One song as the networks hear it."""

    mel: Array  # [F, 64] in units of 20 dB over -80 dB under the loudest cell: 0..4
    pitch: Array  # [G, 69] the same, one column per semitone from E1 up
    duration: Seconds


def analyse(audio: Audio) -> Spectra:
    """Spectra of one song of any rate and channel count."""
    signal = resample(audio.mono(), SAMPLE_RATE).samples[0]
    mel = _power(signal, MEL_WINDOW, MEL_HOP, _mel_filters())
    tuning = _tuning(signal)
    pitch = _power(signal, PITCH_WINDOW, PITCH_HOP, _note_filters(tuning))
    return Spectra(_scaled(mel), _scaled(pitch), audio.duration)


def _power(signal: NDArray[np.float32], window: int, hop: int, filters: Array) -> Array:
    """``[frames, bands]`` power of centred Hann windows through a filter bank ``[bins, bands]``."""
    count = -(-len(signal) // hop)
    padded = np.pad(signal, (window // 2, window // 2 + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:count]
    shape = np.hanning(window).astype(np.float32)
    blocks = []
    for start in range(0, count, CHUNK):
        spectrum = np.fft.rfft(frames[start : start + CHUNK] * shape, axis=1)
        blocks.append((np.abs(spectrum) ** 2).astype(np.float32) @ filters)
    return np.concatenate(blocks)


def _scaled(power: Array) -> Array:
    floor = max(float(power.max()), 1e-12) * 10 ** (FLOOR_DB / 10)
    decibels = 10 * np.log10(np.maximum(power, floor) / floor)
    return np.asarray(decibels / SCALE_DB, dtype=np.float32)


def _mel_filters() -> Array:
    """``[1025, 64]`` triangles of equal height on O'Shaughnessy's mel scale."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (LOWEST, HIGHEST))
    corners = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    hertz = np.arange(MEL_WINDOW // 2 + 1) * SAMPLE_RATE / MEL_WINDOW
    rising = (hertz[:, None] - corners[None, :-2]) / np.diff(corners)[None, :-1]
    falling = (corners[None, 2:] - hertz[:, None]) / np.diff(corners)[None, 1:]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _note_filters(tuning: float) -> Array:
    """``[4097, 69]`` bells around each semitone, no narrower than a bin, of equal sum."""
    hertz = np.arange(PITCH_WINDOW // 2 + 1) * SAMPLE_RATE / PITCH_WINDOW
    centres = 440 * 2 ** ((np.arange(LOW_NOTE, LOW_NOTE + NOTES) + tuning - 69) / 12)
    width = np.maximum(centres * (2 ** (SHARPNESS / 12) - 1), SAMPLE_RATE / PITCH_WINDOW)
    bells = np.exp(-0.5 * ((hertz[:, None] - centres) / width) ** 2)
    return np.asarray(bells / bells.sum(axis=0), dtype=np.float32)


def _tuning(signal: NDArray[np.float32]) -> float:
    """How far the recording is off A = 440 Hz, in semitones (-0.5..0.5): the strong peaks' circular mean."""
    whole = _power(signal, PITCH_WINDOW, 4 * PITCH_HOP, np.eye(PITCH_WINDOW // 2 + 1, dtype=np.float32)[:, 30:750])
    level = np.log(whole + 1e-9)
    before, here, after = level[:, :-2], level[:, 1:-1], level[:, 2:]
    peak = (here > before) & (here >= after) & (here > level.max() - 10)
    if not peak.any():
        return 0.0
    curve = before - 2 * here + after
    shift = 0.5 * (before - after)[peak] / np.minimum(curve[peak], -1e-9)
    place = (np.nonzero(peak)[1] + 31 + shift) * SAMPLE_RATE / PITCH_WINDOW
    turns = np.exp(2j * np.pi * 12 * np.log2(place / 440)) * np.sqrt(whole[:, 1:-1][peak])
    return float(np.angle(turns.sum()) / (2 * np.pi))
