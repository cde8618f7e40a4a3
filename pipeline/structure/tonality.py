"""Key: which of the 24 major and minor keys a song's notes speak for, by weights learned on songs of known key.

Conventions: keys read "C major", "F# minor", with sharps only. One set of weights serves all twelve tonics: the notes
are turned so that each tonic in turn stands first, as in template methods (Krumhansl), with learned templates.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.structure.harmony import chroma
from pipeline.structure.spectra import PITCH_RATE, Array
from pipeline.structure.stage import NOTES

Floats = NDArray[np.float64]
MODES = ("major", "minor")
PARTS = 6  # averages that the weights see: bass and all notes of the whole song, its end and its beginning
END, RING = 40, 5  # frames of 0.1 s: the last chord, and what rings after it
BEGIN = 6 * PITCH_RATE  # frames
SOUNDING = 1.5  # units of 20 dB over the floor; the song ends with the last frame above


def usage(pitch: Array) -> Floats:
    """``[6, 12]`` how much each pitch class is used, of a semitone spectrogram ``[G, 69]``; each row has mean 0."""
    notes, bass = chroma(pitch)
    sounding = np.flatnonzero(pitch.max(axis=1) > SOUNDING)
    last = int(sounding[-1]) if len(sounding) else len(pitch) - 1
    end = slice(max(0, last - END), max(1, last - RING))
    parts = [part[span].mean(axis=0) for span in (slice(None), end, slice(BEGIN)) for part in (bass, notes)]
    table = np.asarray(parts, dtype=np.float64)
    return np.asarray(table - table.mean(axis=1, keepdims=True))


def turned(table: Floats) -> Floats:
    """``[12, 72]``: the rows of `usage` seen from each tonic."""
    return np.stack([np.roll(table, -tonic, axis=1).ravel() for tonic in range(12)])


def find_key(table: Floats, weights: Floats, bias: Floats) -> str:
    """The key of a song's `usage`; `weights` ``[2, 72]`` and `bias` ``[2]`` are for major and minor."""
    tonic, mode = np.unravel_index(int((turned(table) @ weights.T + bias).argmax()), (12, 2))
    return f"{NOTES[tonic]} {MODES[mode]}"
