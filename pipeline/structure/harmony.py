"""Pitch classes over time from the semitone spectrogram.

Conventions: pitch classes from C up; each frame's twelve values sum to less than 1, soft and loud frames count alike.
"""

import numpy as np

from pipeline.structure.spectra import LOW_NOTE, NOTES, Array

NEIGHBOURS = 6  # semitones on either side whose mean is the background that a note stands out of
BASS_NOTES = 24  # columns, E1 to D#3: roots lie here
FIRST_MIDDLE = 20  # column, C3: from here on a semitone is wider than the transform's blur
QUIET = 1.0  # units of 20 dB added to the sum, so that faint frames stay faint


def chroma(pitch: Array) -> tuple[Array, Array]:
    """All notes and the bass, each ``[G, 12]``, of a semitone spectrogram ``[G, 69]``."""
    padded = np.pad(pitch, ((0, 0), (NEIGHBOURS + 1, NEIGHBOURS)), mode="edge")
    sums = np.cumsum(padded, axis=1)
    width = 2 * NEIGHBOURS + 1
    clear = np.maximum(0, pitch - (sums[:, width:] - sums[:, :-width]) / width)
    return _folded(clear, FIRST_MIDDLE, NOTES), _folded(clear, 0, BASS_NOTES)


def _folded(clear: Array, first: int, last: int) -> Array:
    classes = np.zeros((len(clear), 12), dtype=np.float32)
    for column in range(first, last):
        classes[:, (LOW_NOTE + column) % 12] += clear[:, column]
    return np.asarray(classes / (classes.sum(axis=1, keepdims=True) + QUIET), dtype=np.float32)
