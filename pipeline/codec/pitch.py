"""The sung line of a log-mel: which pitch a frame holds, by harmonic templates and the best path through them.

Conventions: log-mels ``[M, 100]`` of 10 ms frames as in `mel`; `P` pitches, a quarter of a semitone apart. The path
follows the salience (cosine of a frame's fine structure with that of a harmonic tone) and pays for moving.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.codec.mel import BANDS, FRAMES_PER_CODE, SAMPLE_RATE, SAMPLES_PER_CODE, log_mel

TONE_BANDS = 60  # below 3 kHz, where bands still tell harmonics apart; ours
AROUND = 9  # bands of the neighbourhood; root of it measured as better than the logarithm (weights/README.md)
ROOT = 0.4  # exponent of the amplitude; as in `codebook`
QUIET = 0.2  # added to a frame's length: what hardly stands out isn't blown up to a tone; ours
LOWEST_HERTZ, STEPS, PER_OCTAVE = 65.0, 193, 48  # C2 to C6, in quarters of a semitone; ours
REACH, MOVE_COST, LEAP_COST = 3, 0.04, 2.0  # steps a frame moves at most, price of each, and of any leap; ours
UNSUNG, SUNG = 0.3, 0.45  # salience at which strength leaves 0 and reaches 1; ours
STEADY = 5  # frames whose mean salience counts; ours
PARTIALS, HIGHEST_PARTIAL = 60, 11_000.0  # of a template: at most so many, Hz; ours
TEMPLATE_CODES = 6  # length of a template's tone; its edges are left off; ours


@dataclass(frozen=True, slots=True)
class Line:
    """One pitch a frame, sung or not."""

    hertz: NDArray[np.float64]  # [M]
    strength: NDArray[np.float64]  # [M] 0..1: how surely that pitch sounds

    def weakened(self, share: NDArray[np.float64]) -> "Line":
        """The same line, its strength ``[M]`` times `share`."""
        return replace(self, strength=self.strength * share)


def tone(log_mels: Tensor) -> Tensor:
    """What stands out of each frame below 3 kHz, whatever its level: ``[..., 100]`` -> ``[..., 60]``, of length < 1."""
    rows = log_mels.float()
    amplitude = (ROOT * (rows - rows.amax(dim=-1, keepdim=True))).exp()
    fine = amplitude @ standing_out()[:, :TONE_BANDS].to(rows.device)
    shape: Tensor = fine / (fine.norm(dim=-1, keepdim=True) + QUIET)
    return shape


def sung_line(log_mels: Tensor) -> Line:
    """The line of ``[M, 100]``; one is always found, its strength tells whether to believe it."""
    salience = (tone(log_mels) @ _templates().T).numpy().astype(np.float64)
    path = _best_path(salience)
    strongest = salience[np.arange(len(path)), path]
    steady = np.convolve(np.pad(strongest, STEADY // 2, mode="edge"), np.full(STEADY, 1 / STEADY), "valid")
    return Line(_between_steps(salience, path), np.clip((steady - UNSUNG) / (SUNG - UNSUNG), 0, 1))


def _best_path(salience: NDArray[np.float64]) -> NDArray[np.int64]:
    """Viterbi through ``[M, P]``: at most `REACH` steps a frame, or a leap from the best of the last frame."""
    frames, pitches = salience.shape
    price = MOVE_COST * np.abs(np.arange(-REACH, REACH + 1))
    came_from = np.empty((frames, pitches), np.int64)
    score, here = salience[0], np.arange(pitches)
    for frame in range(1, frames):
        around = np.lib.stride_tricks.sliding_window_view(np.pad(score, REACH, constant_values=-np.inf), 2 * REACH + 1)
        worth = around - price
        move = worth.argmax(axis=1)
        best, leap = worth[here, move], int(score.argmax())
        leaps = score[leap] - LEAP_COST > best
        came_from[frame] = np.where(leaps, leap, here + move - REACH)
        score = np.where(leaps, score[leap] - LEAP_COST, best) + salience[frame]
    path = np.empty(frames, np.int64)
    path[-1] = score.argmax()
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return path


def _between_steps(salience: NDArray[np.float64], path: NDArray[np.int64]) -> NDArray[np.float64]:
    """The path in Hz, moved to the top of the parabola through a step and its neighbours."""
    rows, middle = np.arange(len(path)), np.clip(path, 1, salience.shape[1] - 2)
    below, at, above = (salience[rows, middle + side] for side in (-1, 0, 1))
    bend = below - 2 * at + above
    moved = np.where(bend < -1e-9, (below - above) / np.where(bend < -1e-9, 2 * bend, 1.0), 0.0)
    hertz: NDArray[np.float64] = LOWEST_HERTZ * 2 ** ((middle + np.clip(moved, -0.5, 0.5)) / PER_OCTAVE)
    return hertz


@cache
def _templates() -> Tensor:
    """Unit rows ``[P, 60]``: the mean `tone` of a harmonic sound whose partials fall by 6 dB an octave."""
    rows = torch.stack([_template(LOWEST_HERTZ * 2 ** (step / PER_OCTAVE)) for step in range(STEPS)])
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return unit


def _template(hertz: float) -> Tensor:
    partial = np.arange(1, int(min(PARTIALS, HIGHEST_PARTIAL // hertz)) + 1)[:, None]
    seconds = np.arange(TEMPLATE_CODES * SAMPLES_PER_CODE) / SAMPLE_RATE
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (len(partial), 1))
    wave = (np.cos(2 * np.pi * partial * hertz * seconds + phases) / partial).sum(axis=0)
    samples = torch.from_numpy((0.5 * wave / np.abs(wave).max()).astype(np.float32))
    return tone(log_mel(samples, TEMPLATE_CODES)[FRAMES_PER_CODE:-FRAMES_PER_CODE]).mean(dim=0)


@cache
def standing_out() -> Tensor:
    """The map ``[100, 100]`` from bands (rows) to how far each stands out of a Hann-weighted neighbourhood."""
    with torch.inference_mode(mode=False):  # kept for training too, which can't use a tensor of inference
        weights = torch.hann_window(AROUND + 2, periodic=False)[1:-1]
        identity = torch.eye(BANDS)
        padded = F.pad(identity[:, None], (AROUND // 2, AROUND // 2), mode="replicate")
        return identity - F.conv1d(padded, (weights / weights.sum())[None, None])[:, 0]
