"""Training examples: one song in many keys, tempos, sounds and forms.

Conventions: every example is drawn from the generator that is given, so that step n of a run is the same after a
restart; shapes as in `networks`.
"""

from dataclasses import replace

import numpy as np

from pipeline.structure.corpus import Floats, Indices, Song
from pipeline.structure.grid import Grid, inputs
from pipeline.structure.sections import LABELS
from pipeline.structure.spectra import BANDS, MEL_RATE, Array

CROP = 1500  # frames, 30 s
STRETCH = 0.22  # log of the largest change of tempo
SHIFT = 4  # mel bands that a sound is moved by at most
TILT, LEVEL, BUMPS = 0.3, 0.2, 0.1  # units of 20 dB, standard deviations: slope over the bands, level, single bands
NEAR = ((-2, 0.25), (2, 0.25), (-1, 0.5), (1, 0.5), (0, 1.0))  # frames off a beat and how much of a beat they are
EDITED = 0.7  # share of the examples with another form than the song's own
WITHOUT_CHORUS = 0.25  # share of those that have no chorus
UNHEARD, DETECTED = 0.15, 0.6  # shares of the examples where the voice is not known, or is what the detection found
MISCOUNTED = 0.07  # share of the examples whose bars are told to begin on another beat
NOISE = 0.05  # of the form network's input


def beat_example(song: Song, rng: np.random.Generator) -> tuple[Array, Array]:
    """Mel ``[64, 1500]`` and targets ``[2, 1500]`` of a crop, played faster or slower, higher or lower, brighter."""
    mel = song.spectra.mel
    slower = float(np.exp(rng.uniform(-STRETCH, STRETCH)))
    first = float(rng.uniform(0, max(0.0, len(mel) - CROP / slower - 1)))
    place = np.clip(first + np.arange(CROP) / slower, 0, len(mel) - 1.001)
    index = place.astype(int)
    share = (place - index)[:, None].astype(np.float32)
    sound = mel[index] * (1 - share) + mel[np.minimum(index + 1, len(mel) - 1)] * share
    bands = np.clip(np.arange(BANDS) - int(rng.integers(-SHIFT, SHIFT + 1)), 0, BANDS - 1)
    sound = sound[:, bands] + _colour(rng)
    target = np.zeros((2, CROP), dtype=np.float32)
    for row, times in enumerate((song.beats, song.downbeats)):
        frames = np.round((times * MEL_RATE - first) * slower).astype(int)
        for offset, weight in NEAR:
            inside = frames + offset
            inside = inside[(inside >= 0) & (inside < CROP)]
            target[row, inside] = np.maximum(target[row, inside], weight)
    return np.ascontiguousarray(sound.T, dtype=np.float32), target


def form_example(
    grid: Grid, truth: tuple[Indices, Floats], rng: np.random.Generator
) -> tuple[Array, Array, Indices, Floats]:
    """Columns ``[N, C]``, likeness ``[N, N]``, labels and boundaries ``[N]`` of a song's grid, mostly edited."""
    labels, boundary = truth
    if rng.random() < EDITED:
        rows, begins = another_form(labels, boundary, rng)
        grid, labels, boundary = grid.take(rows), labels[rows], begins
    if grid.per_bar and rng.random() < MISCOUNTED:
        grid = replace(grid, phase=(grid.phase + int(rng.integers(1, grid.per_bar))) % grid.per_bar)
    turn = int(rng.integers(12))
    notes = np.concatenate([np.roll(half, turn, axis=1) for half in np.split(grid.notes, 2, axis=1)], axis=1)
    columns, likeness = inputs(replace(grid, timbre=grid.timbre + _colour(rng), notes=notes))
    noise = rng.normal(0, NOISE, columns.shape)
    return (columns + noise).astype(np.float32), likeness, labels, boundary


def another_form(labels: Indices, boundary: Floats, rng: np.random.Generator) -> tuple[Indices, Floats]:
    """Beats of another song made of the same sections: some left out, played twice, cut in half; intros and
    interludes that go on, songs without their chorus. Returns indices of beats and where sections begin."""
    begins = np.flatnonzero(boundary)
    sections = [np.arange(a, b) for a, b in zip(begins, [*begins[1:], len(labels)], strict=True)]
    kind = rng.random()
    if kind < WITHOUT_CHORUS:
        sections = [s for s in sections if LABELS[labels[s[0]]] != "chorus"]
    elif kind < 0.5:
        sections = [s for s in sections if rng.random() > 0.15]
    rows, marks = [], []
    for section in sections:
        played = _played(section, LABELS[labels[section[0]]], rng)
        rows.append(played)
        marks.append(np.arange(len(played)) == 0)
    if sum(len(r) for r in rows) < 16:
        return np.arange(len(labels)), boundary
    return np.concatenate(rows), np.concatenate(marks).astype(np.float64)


def _played(section: Indices, label: str, rng: np.random.Generator) -> Indices:
    chance = rng.random()
    if label in ("intro", "inst") and chance < 0.25:
        return np.tile(section, int(rng.integers(2, 10)))
    if chance < 0.3 and len(section) <= 16:
        return np.tile(section, 2)
    if chance < 0.4 and len(section) >= 16:
        return section[: len(section) // 2]
    return section


def _colour(rng: np.random.Generator) -> Array:
    """``[64]`` of another recording: its level, brightness and equaliser."""
    slope = rng.normal(0, TILT) * np.linspace(-1, 1, BANDS)
    return np.asarray(slope + rng.normal(0, LEVEL) + rng.normal(0, BUMPS, BANDS), dtype=np.float32)
