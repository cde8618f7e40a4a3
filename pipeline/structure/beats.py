"""Beats, bars and tempo: a pulse from onset strength, then the metre that harmony fits best.

Conventions: beat times are seconds, ascending. The tracker's pulse may sit between the beats (a hat on every "and" is
louder than the kick) or slip by half a beat within a song, so the metre is decided on half beats: bars begin where
harmony changes and bass notes start, and every second half beat of a bar is a beat.
"""

from dataclasses import dataclass

import librosa
import numpy as np

from pipeline.structure.features import FRAME, HOP, SAMPLE_RATE, Array, Frames, Indices, synchronise

FEWEST = 8  # beats; fewer are no pulse
LATENCY = 0.035  # s; how late the pulse was on 23 rendered songs, 0.033 to 0.049 in the median
REACH = 4  # half beats on either side that a change of harmony is measured over
BASS_WEIGHT = 0.25  # of bass onsets beside changes of harmony; this and the next swept on the same songs
SLIP = 8.0  # cost of a slip by any number of half beats, in standard deviations of the accent


@dataclass(frozen=True, slots=True)
class Metre:
    """The beats of a song."""

    beats: Array  # [N] s
    downbeats: Indices  # which beats begin a bar


NONE = Metre(np.zeros(0), np.zeros(0, dtype=np.int64))


def find_metre(frames: Frames, beats_per_bar: int) -> Metre:
    """Beats and bars; both empty where no pulse was found."""
    pulse = _pulse(frames)
    if len(pulse) < FEWEST:
        return NONE
    halves = np.sort(np.concatenate([pulse, (pulse[1:] + pulse[:-1]) / 2]))
    positions = _positions(_accents(frames, halves), 2 * beats_per_bar)
    beats = np.maximum(0.0, halves - LATENCY)
    on_beat = positions % 2 == 0
    return Metre(beats[on_beat], np.flatnonzero(positions[on_beat] == 0))


def tempo(beats: Array) -> float:
    """Beats a minute: the median over eight-beat stretches, since single intervals are rounded to frames; 0 = none."""
    if len(beats) < FEWEST:
        return 0.0
    stretch = min(8, len(beats) - 1)
    return float(60 * stretch / np.median(beats[stretch:] - beats[:-stretch]))


def _pulse(frames: Frames) -> Array:
    """The tracker's beat times (librosa's dynamic programming)."""
    if frames.onset.max(initial=0.0) <= 0:
        return np.zeros(0)
    _, times = librosa.beat.beat_track(
        onset_envelope=frames.onset, sr=SAMPLE_RATE, hop_length=HOP, trim=False, units="time"
    )
    pulse = np.asarray(times, dtype=np.float64)
    return pulse[(pulse >= 0) & (pulse < frames.duration)]


def _accents(frames: Frames, halves: Array) -> Array:
    """How much each half beat sounds like the start of a bar, in standard deviations."""
    change = _harmonic_change(synchronise(frames.chroma, np.append(halves, frames.duration)))
    places = np.round(halves / FRAME).astype(int)
    bass = np.array([frames.bass_onset[max(0, i - 2) : i + 3].max(initial=0.0) for i in places])
    return _standard(change) + BASS_WEIGHT * _standard(bass)


def _harmonic_change(chroma: Array) -> Array:
    """Cosine distance between the two beats before each half beat and the two from it on: ``[N, 12]`` -> ``[N]``.

    Two beats, since notes smear in time in the constant-Q transform; every half beat counts alike and square roots
    flatten its notes, or the louder harmony would win time from its neighbour.
    """
    flat = np.sqrt(chroma / (np.linalg.norm(chroma, axis=1, keepdims=True) + 1e-9))
    change = np.zeros(len(flat))
    for i in range(REACH, len(flat) - REACH + 1):
        before, after = flat[i - REACH : i].sum(axis=0), flat[i : i + REACH].sum(axis=0)
        change[i] = 1 - before @ after / (np.linalg.norm(before) * np.linalg.norm(after) + 1e-9)
    return change


def _positions(accents: Array, per_bar: int) -> Indices:
    """The best path through the positions of the bar (Viterbi): one of `per_bar` per half beat, 0 = first."""
    ahead = np.full((per_bar, per_bar), -SLIP)
    ahead[np.arange(per_bar), (np.arange(per_bar) + 1) % per_bar] = 0.0
    reward = np.zeros((len(accents), per_bar))
    reward[:, 0] = accents
    score, came_from = reward[0], np.zeros(reward.shape, dtype=np.int64)
    for i in range(1, len(accents)):
        options = score[:, None] + ahead
        came_from[i] = options.argmax(axis=0)
        score = options.max(axis=0) + reward[i]
    path = [int(score.argmax())]
    for i in range(len(accents) - 1, 0, -1):
        path.append(int(came_from[i, path[-1]]))
    return np.array(path[::-1])


def _standard(values: Array) -> Array:
    return np.asarray((values - values.mean()) / (values.std() + 1e-9))
