"""Structure by self-similarity: beats, bars and key from signal processing, sections from how a song resembles itself.

Conventions: as in `stage`; no weights. Boundaries lie on bar lines, except the first (0) and the last (the duration).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipeline.errors import BadInput
from pipeline.structure import beats, form, labels
from pipeline.structure.features import FRAME, Array, Frames, analyse, synchronise
from pipeline.structure.stage import Structure, StructureConfig
from pipeline.structure.tonality import find_key
from pipeline.types import Audio, Section, Span

PULSELESS_STEP = 0.5  # s between grid lines where no beat was found
VOICE_WEIGHT = 4  # columns that the voice gets beside the 14 of timbre and level; swept on 26 songs that we rendered
PULSELESS_BAR = 4  # grid lines between places where a section may begin there


class SelfSimilarity:
    """The embedded backend."""

    name, backend = "structure", "selfsim"
    weights_sha256, licence = "", "Apache-2.0"

    def __init__(self, config: StructureConfig) -> None:
        self.config = config

    def __call__(self, audio: Audio, vocal_active: Sequence[Span] | None = None) -> Structure:
        """Analyse one song; `BadInput` (too_short) under two seconds. Same audio, same answer."""
        if audio.duration < 2:
            raise BadInput(f"structure needs 2 s of audio, got {audio.duration:.2f} s", reason="too_short")
        frames = analyse(audio)
        metre = beats.find_metre(frames, self.config.beats_per_bar)
        return Structure(
            sections=self._sections(frames, metre, vocal_active),
            beats=tuple(float(t) for t in metre.beats),
            downbeats=tuple(float(t) for t in metre.beats[metre.downbeats]),
            tempo=beats.tempo(metre.beats),
            key=find_key(frames.chroma, frames.bass_chroma),
        )

    def _sections(self, frames: Frames, metre: beats.Metre, vocal_active: Sequence[Span] | None) -> tuple[Section, ...]:
        lines = metre.beats if len(metre.beats) else np.arange(PULSELESS_STEP, frames.duration, PULSELESS_STEP)
        grid = np.unique(np.concatenate([[0.0], lines, [frames.duration]]))
        step = float(np.median(np.diff(grid)))
        chroma = synchronise(frames.chroma, grid)
        voice = None if vocal_active is None else synchronise(_activity(vocal_active, len(frames.level)), grid)
        level = synchronise(frames.level, grid)
        texture = [synchronise(frames.timbre, grid), level, *([] if voice is None else [voice] * VOICE_WEIGHT)]
        timbre = np.column_stack(texture)
        curve = form.novelty(form.self_similarity(chroma, timbre), max(2, round(self.config.kernel / step)))
        bars = metre.beats[metre.downbeats] if len(metre.beats) else grid[::PULSELESS_BAR]
        candidates = np.searchsorted(grid, bars)
        bounds = form.divide(
            curve, candidates, self.config.min_section / step, self.config.peak, self.config.irregularity
        )
        parts = labels.Parts(
            groups=labels.group(chroma, bounds),
            level=_means(level, bounds),
            voice=None if voice is None else _means(voice, bounds),
            length=np.diff(grid[list(bounds)]),
        )
        edges = [float(grid[b]) for b in bounds]
        return tuple(Section(a, b, label) for (a, b), label in zip(pairwise(edges), labels.name(parts), strict=True))


def _activity(spans: Sequence[Span], frames: int) -> Array:
    """``[F]``, 1 where somebody sings."""
    active = np.zeros(frames)
    for span in spans:
        active[round(span.start / FRAME) : round(span.end / FRAME)] = 1.0
    return active


def _means(values: Array, bounds: Sequence[int]) -> Array:
    return np.array([values[a:b].mean() for a, b in pairwise(bounds)])


def build(config: StructureConfig) -> SelfSimilarity:
    return SelfSimilarity(config)
