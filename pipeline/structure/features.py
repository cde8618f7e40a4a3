"""What the self-similarity backend measures of a song: frame features, and their means between grid lines.

Conventions: mono at 22,050 Hz; a frame is 512 samples (23 ms), feature arrays are ``[F, ...]`` with one row per frame;
synchronous arrays are ``[N, ...]`` with one row per interval between N + 1 grid lines.
"""

from dataclasses import dataclass
from itertools import pairwise

import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline.audio import resample
from pipeline.types import Audio, Seconds

SAMPLE_RATE = 22_050  # Hz; librosa's own default, what its beat tracker was tuned on
HOP = 512  # samples
FRAME = HOP / SAMPLE_RATE  # s
CHROMA_HOP = 1024  # samples; harmony changes slowly, and the constant-Q transform is the dear part
BASS = 150.0  # Hz; kick drum and bass lie below
CQT_SAMPLES = 65_536  # samples; the least that the transform's lowest octave takes without a warning
LOWEST = 65.41  # Hz, C2; notes below last too long in the transform to be placed in time
OCTAVES = 6  # up to C8
BASS_LOWEST = 32.70  # Hz, C1
BASS_OCTAVES = 3
TUNING_SAMPLES = 60 * SAMPLE_RATE  # a recording has one tuning: its middle minute tells it
TIMBRES = 13  # MFCCs, the level left out
FLOOR_DB = -80.0  # below the loudest frame

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Frames:
    """Per frame of 23 ms."""

    onset: Array  # [F] strength of note starts, >= 0
    bass_onset: Array  # [F] the same below 150 Hz
    chroma: Array  # [F, 12] energy per pitch class, C first, >= 0
    bass_chroma: Array  # [F', 12] the same of C1 to B3, one frame per 46 ms
    timbre: Array  # [F, 13] MFCCs 1..13
    level: Array  # [F] dB under the loudest frame, -80..0
    duration: Seconds


def analyse(audio: Audio) -> Frames:
    """Features of one song of any rate."""
    signal = resample(audio.mono(), SAMPLE_RATE).samples[0]
    mel = librosa.feature.melspectrogram(y=signal, sr=SAMPLE_RATE, hop_length=HOP, n_fft=2048, n_mels=128)
    decibels = librosa.power_to_db(mel, ref=np.max, top_db=-FLOOR_DB)
    low = librosa.mel_frequencies(n_mels=128, fmax=SAMPLE_RATE / 2) < BASS
    level = librosa.power_to_db(mel.sum(axis=0), ref=np.max, top_db=-FLOOR_DB)
    return Frames(
        onset=librosa.onset.onset_strength(S=decibels, sr=SAMPLE_RATE, hop_length=HOP).astype(np.float64),
        bass_onset=np.maximum(0, np.diff(decibels[low].mean(axis=0), prepend=decibels[low, 0].mean())).astype(
            np.float64
        ),
        chroma=_chroma(signal, decibels.shape[1]),
        bass_chroma=_bass_chroma(signal),
        timbre=librosa.feature.mfcc(S=decibels, n_mfcc=TIMBRES + 1)[1:].T.astype(np.float64),
        level=level.astype(np.float64),
        duration=audio.duration,
    )


def synchronise(values: Array, grid: Array) -> Array:
    """Means of frame rows between grid lines (seconds, ascending, N + 1 of them): ``[N, ...]``."""
    edges = np.minimum(np.round(grid / FRAME).astype(int), len(values) - 1)
    # An interval shorter than a frame takes the frame that it lies in.
    return np.stack([values[a : max(a + 1, b)].mean(axis=0) for a, b in pairwise(edges)])


def _chroma(signal: NDArray[np.float32], frames: int) -> Array:
    """``[F, 12]`` at the common frame rate; twelve bins an octave, since more would blur time threefold."""
    chroma = _constant_q(signal, LOWEST, OCTAVES, bins_per_octave=12)
    doubled = np.repeat(chroma, CHROMA_HOP // HOP, axis=0)[:frames]
    return np.pad(doubled, ((0, max(0, frames - len(doubled))), (0, 0)), mode="edge")


def _bass_chroma(signal: NDArray[np.float32]) -> Array:
    """``[F', 12]``; finer bins, since bass notes lie close together and their time doesn't matter."""
    return _constant_q(signal, BASS_LOWEST, BASS_OCTAVES, bins_per_octave=36)


def _constant_q(signal: NDArray[np.float32], lowest: float, octaves: int, bins_per_octave: int) -> Array:
    padded = np.pad(signal, (0, max(0, CQT_SAMPLES - len(signal))))
    chroma = librosa.feature.chroma_cqt(
        y=padded,
        sr=SAMPLE_RATE,
        hop_length=CHROMA_HOP,
        norm=None,
        tuning=_tuning(padded) * bins_per_octave / 12,
        bins_per_octave=bins_per_octave,
        fmin=lowest,
        n_octaves=octaves,
    )
    return np.asarray(chroma.T[: -(-len(signal) // CHROMA_HOP)], dtype=np.float64)


def _tuning(signal: NDArray[np.float32]) -> float:
    """How far the recording is off A = 440 Hz, in semitones; 0 where nothing is pitched."""
    middle = max(0, len(signal) // 2 - TUNING_SAMPLES // 2)
    pitches, strengths = librosa.piptrack(y=signal[middle : middle + TUNING_SAMPLES], sr=SAMPLE_RATE)
    pitched = pitches > 0
    if not pitched.any():
        return 0.0
    strong = pitched & (strengths >= np.median(strengths[pitched]))
    return float(librosa.pitch_tuning(pitches[strong], bins_per_octave=12))
