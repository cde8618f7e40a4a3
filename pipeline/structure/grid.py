"""A song beat by beat, and what the form network is told of each beat.

Conventions: N beats; arrays have one row per beat interval ``[line i, line i + 1)``; the grid's lines are the tracked
beats (half seconds where there is no pulse), with 0 in front and the song's end behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.structure.harmony import chroma
from pipeline.structure.spectra import MEL_RATE, PITCH_RATE, Array, Spectra
from pipeline.types import Span

PULSELESS = 0.5  # s between lines where no beat was found
SHORTEST = 0.05  # s; a line closer than this to an end of the song is that end
TIMBRES, FLUXES = 32, 8  # columns that mel bands and their rises are averaged to
KERNELS = (4, 8, 16)  # beats on either side that novelty compares
STACK = 8  # beats that must agree one by one before a passage counts as a repetition
FAR = 8  # beats; a repetition lies at least this far off
REPEATS = (1, 2, 4)  # how many of the best repetitions are averaged
COLUMNS = TIMBRES + 3 * FLUXES + 2 + 4 + 3 + 2 * len(KERNELS) + len(REPEATS) + 2
"""Width of the network's input."""


@dataclass(frozen=True, slots=True)
class Grid:
    """One song between beats."""

    lines: NDArray[np.float64]  # [N + 1] s
    phase: NDArray[np.int64]  # [N] place in the bar, 0 = first beat; -1 = not known
    per_bar: int  # beats a bar; 0 = no pulse
    timbre: Array  # [N, 64] mean mel
    flux: Array  # [N, 8] mean rise of mel
    notes: Array  # [N, 24] pitch classes of all notes and of the bass
    voice: Array | None  # [N] share of the interval with voice; None = not known

    def take(self, rows: NDArray[np.int64]) -> "Grid":
        """The beats of these indices, one after the other: another form of the same song."""
        lengths = np.diff(self.lines)[rows]
        voice = None if self.voice is None else self.voice[rows]
        lines = np.concatenate([[0.0], np.cumsum(lengths)])
        return Grid(lines, self.phase[rows], self.per_bar, self.timbre[rows], self.flux[rows], self.notes[rows], voice)


def lay(
    spectra: Spectra, beats: NDArray[np.float64], downbeats: NDArray[np.int64], voice: Sequence[Span] | None
) -> Grid:
    """The grid of one song; `downbeats` are indices of beats, `voice` where somebody sings."""
    pulse = len(beats) > 0
    inner = beats if pulse else np.arange(PULSELESS, spectra.duration, PULSELESS)
    inside = (inner > SHORTEST) & (inner < spectra.duration - SHORTEST)
    lines = np.concatenate([[0.0], inner[inside], [spectra.duration]])
    per_bar = int(np.median(np.diff(downbeats))) if len(downbeats) > 1 else 0
    dropped = int(np.sum(inner <= SHORTEST))
    first = int(downbeats[0]) - dropped if per_bar else 0
    # lines[0] is the song's start: where a beat lay there it was dropped, and the start stands for it
    phase = (np.arange(len(lines) - 1) - 1 - first) % per_bar if per_bar else np.full(len(lines) - 1, -1)
    rise = np.maximum(0, np.diff(spectra.mel, axis=0, prepend=spectra.mel[:1]))
    active = None if voice is None else _means(_activity(voice, len(spectra.mel))[:, None], lines, MEL_RATE)[:, 0]
    return Grid(
        lines=lines,
        phase=phase.astype(np.int64),
        per_bar=per_bar,
        timbre=_means(spectra.mel, lines, MEL_RATE),
        flux=_means(_narrow(rise, FLUXES), lines, MEL_RATE),
        notes=_means(np.concatenate(chroma(spectra.pitch), axis=1), lines, PITCH_RATE),
        voice=active,
    )


def inputs(grid: Grid) -> tuple[Array, Array]:
    """What the form network sees: columns ``[N, COLUMNS]`` and the likeness of every two beats ``[N, N]``, -1..1."""
    timbre = _narrow(grid.timbre, TIMBRES)
    timbre = timbre - timbre.mean(axis=0)
    harmony = _centred(grid.notes)
    likeness = _along(harmony @ harmony.T)
    columns = [
        timbre,
        4 * (grid.flux - grid.flux.mean(axis=0)),
        # Not centred: a verse is a verse in a song without anything louder.
        4 * grid.flux,
        _narrow(grid.timbre, FLUXES) - 2.0,
        *_voice(grid),
        *_places(grid),
        *_novelties(harmony @ harmony.T),
        *_novelties(_likeness(timbre)),
        *_repetitions(likeness, timbre),
    ]
    table = np.concatenate([c if c.ndim == 2 else c[:, None] for c in columns], axis=1)
    return np.asarray(table, dtype=np.float32), np.asarray(likeness, dtype=np.float32)


def _voice(grid: Grid) -> list[Array]:
    count = len(grid.phase)
    if grid.voice is None:
        return [np.zeros(count, np.float32), np.zeros(count, np.float32)]
    return [2 * grid.voice - 1, np.ones(count, np.float32)]


def _places(grid: Grid) -> list[Array]:
    """Place in the bar and in the song."""
    turn = 2 * np.pi * grid.phase / max(grid.per_bar, 1)
    known = float(grid.per_bar > 0)
    bar = [known * (grid.phase == 0), known * np.sin(turn), known * np.cos(turn), np.full(len(turn), known)]
    start, end = grid.lines[:-1], grid.lines[-1] - grid.lines[:-1]
    song = [start / grid.lines[-1], np.log1p(start) / 3, np.log1p(end) / 3]
    return [np.asarray(column, dtype=np.float32) for column in (*bar, *song)]


def _novelties(similarity: Array) -> list[Array]:
    """How much the beats before each line differ from those after it, for each kernel (Foote 2000)."""
    count = len(similarity)
    total = np.zeros((count + 1, count + 1))
    total[1:, 1:] = similarity.cumsum(axis=0).cumsum(axis=1)
    lines = np.arange(count)

    def block(a: NDArray[np.int64], b: NDArray[np.int64], c: NDArray[np.int64], d: NDArray[np.int64]) -> Array:
        area = np.maximum(1, (b - a) * (d - c))
        return np.asarray((total[b, d] - total[a, d] - total[b, c] + total[a, c]) / area)

    curves = []
    for reach in KERNELS:
        before, after = np.maximum(0, lines - reach), np.minimum(count, lines + reach)
        within = block(before, lines, before, lines) + block(lines, after, lines, after)
        curves.append(np.asarray(within - 2 * block(before, lines, lines, after), dtype=np.float32))
    return curves


def _repetitions(likeness: Array, timbre: Array) -> list[Array]:
    """How well each beat's passage comes back elsewhere, and how the song sounds there: louder, fuller?"""
    count = len(likeness)
    far = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) >= FAR
    others = np.where(far, likeness, -1.0)
    ranked = -np.sort(-others, axis=1)
    means = [ranked[:, : min(k, count)].mean(axis=1) for k in REPEATS]
    weights = np.exp(8 * others) * far + 1e-6
    level = timbre.mean(axis=1)
    elsewhere = weights @ level / weights.sum(axis=1)
    return [np.asarray(c, dtype=np.float32) for c in (*means, elsewhere, level)]


def _along(similarity: Array) -> Array:
    """Similarity averaged along the diagonals: passages are alike whose beats are alike one by one."""
    count, half = len(similarity), STACK // 2
    padded = np.pad(similarity, half)
    shifted = [padded[half + k : half + k + count, half + k : half + k + count] for k in range(-half, half)]
    return np.asarray(np.mean(shifted, axis=0))


def _centred(notes: Array) -> Array:
    flat = np.sqrt(np.maximum(notes, 0))
    flat = flat - flat.mean(axis=0)
    return np.asarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6))


def _likeness(timbre: Array) -> Array:
    square = np.sum(timbre**2, axis=1)
    distance = np.maximum(0, square[:, None] + square - 2 * timbre @ timbre.T)
    return np.asarray(np.exp(-distance / (np.median(distance) + 1e-6)))


def _means(values: Array, lines: NDArray[np.float64], rate: int) -> Array:
    """Means of frame rows between lines: ``[N, ...]``; an interval shorter than a frame takes its frame."""
    edges = np.clip(np.round(lines * rate).astype(int), 0, len(values))
    starts = np.minimum(edges[:-1], len(values) - 1)
    ends = np.maximum(edges[1:], starts + 1)
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0, dtype=np.float64)])
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts)[:, None], dtype=np.float32)


def _narrow(mel: Array, columns: int) -> Array:
    return np.asarray(mel.reshape(len(mel), columns, -1).mean(axis=2))


def _activity(spans: Sequence[Span], frames: int) -> Array:
    active = np.zeros(frames, dtype=np.float32)
    for span in spans:
        active[round(span.start * MEL_RATE) : round(span.end * MEL_RATE)] = 1.0
    return active
