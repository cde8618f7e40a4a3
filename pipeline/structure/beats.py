"""Beats, bars and tempo from onset strength.

Conventions: beat times are seconds, ascending; the bar's first beat is found by where bass notes start and harmony
changes; a slip of the tracker may shift the bar's phase within a song.
"""

import librosa
import numpy as np

from pipeline.structure.features import HOP, SAMPLE_RATE, Array, Frames, Indices, synchronise

FEWEST = 8  # beats; fewer are no pulse
SLIP = 4.0  # cost of one beat too many or too few in a bar, in standard deviations of the accent; ours


def track(frames: Frames) -> Array:
    """Beat times ``[N]``; empty where no pulse was found."""
    if frames.onset.max(initial=0.0) <= 0:
        return np.zeros(0)
    _, beats = librosa.beat.beat_track(
        onset_envelope=frames.onset, sr=SAMPLE_RATE, hop_length=HOP, trim=False, units="time"
    )
    beats = np.asarray(beats, dtype=np.float64)
    beats = beats[(beats >= 0) & (beats < frames.duration)]
    return beats if len(beats) >= FEWEST else np.zeros(0)


def tempo(beats: Array) -> float:
    """Beats a minute: the median over eight-beat stretches, since single intervals are rounded to frames; 0 = none."""
    if len(beats) < FEWEST:
        return 0.0
    stretch = min(8, len(beats) - 1)
    return float(60 * stretch / np.median(beats[stretch:] - beats[:-stretch]))


def downbeats(frames: Frames, beats: Array, beats_per_bar: int) -> Indices:
    """Which beats begin a bar, as indices into `beats`."""
    if len(beats) < FEWEST:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(_phases(_accents(frames, beats), beats_per_bar) == 0)


def _accents(frames: Frames, beats: Array) -> Array:
    """How much each beat sounds like the first of a bar, in standard deviations."""
    grid = np.append(beats, frames.duration)
    change = _harmonic_change(synchronise(frames.chroma, grid))
    places = np.round(beats * SAMPLE_RATE / HOP).astype(int)
    near = [frames.bass_onset[max(0, i - 2) : i + 3].max(initial=0.0) for i in places]
    return _standard(change) + 0.5 * _standard(np.array(near))


def _harmonic_change(chroma: Array) -> Array:
    """Cosine distance between the two beats before each beat and the two from it on.

    Two beats, since notes smear in time in the constant-Q transform; every beat counts alike and square roots flatten
    its notes, or the louder harmony would win the beat before its own.
    """
    flat = np.sqrt(chroma / (np.linalg.norm(chroma, axis=1, keepdims=True) + 1e-9))
    change = np.zeros(len(chroma))
    for i in range(2, len(chroma) - 1):
        before, after = flat[i - 2 : i].sum(axis=0), flat[i : i + 2].sum(axis=0)
        change[i] = 1 - before @ after / (np.linalg.norm(before) * np.linalg.norm(after) + 1e-9)
    return change


def _phases(accents: Array, beats_per_bar: int) -> Indices:
    """The best path through the positions of the bar (Viterbi): position per beat, 0 = first."""
    ahead = np.full((beats_per_bar, beats_per_bar), -SLIP)
    for position in range(beats_per_bar):
        ahead[position, (position + 1) % beats_per_bar] = 0.0
    reward = np.zeros((len(accents), beats_per_bar))
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
