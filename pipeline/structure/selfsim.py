"""Structure by self-similarity: beats, bars and key from signal processing, sections from how a song resembles itself.

Conventions: as in `stage`; no weights. Boundaries lie on bar lines, except the first (0) and the last (the duration).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipeline.errors import BadInput
from pipeline.structure import beats, form, labels
from pipeline.structure.features import FRAME, Array, Frames, Indices, analyse, synchronise
from pipeline.structure.stage import Structure, StructureConfig
from pipeline.structure.tonality import find_key
from pipeline.types import Audio, Section, Span

PULSELESS_STEP = 0.5  # s between grid lines where no beat was found


class SelfSimilarity:
    """The embedded backend."""

    name, version, backend = "structure", 1, "selfsim"
    weights_sha256, licence = "", "Apache-2.0"

    def __init__(self, config: StructureConfig) -> None:
        self.config = config

    def __call__(self, audio: Audio, vocal_active: Sequence[Span] | None = None) -> Structure:
        """Analyse one song; `BadInput` (too_short) under two seconds. Same audio, same answer."""
        if audio.duration < 2:
            raise BadInput(f"structure needs 2 s of audio, got {audio.duration:.2f} s", reason="too_short")
        frames = analyse(audio)
        pulse = beats.track(frames)
        bars = beats.downbeats(frames, pulse, self.config.beats_per_bar)
        return Structure(
            sections=self._sections(frames, pulse, bars, vocal_active),
            beats=tuple(float(t) for t in pulse),
            downbeats=tuple(float(t) for t in pulse[bars]),
            tempo=beats.tempo(pulse),
            key=find_key(frames.chroma),
        )

    def _sections(
        self, frames: Frames, pulse: Array, bars: Indices, vocal_active: Sequence[Span] | None
    ) -> tuple[Section, ...]:
        lines = pulse if len(pulse) else np.arange(PULSELESS_STEP, frames.duration, PULSELESS_STEP)
        grid = np.unique(np.concatenate([[0.0], lines, [frames.duration]]))
        step = float(np.median(np.diff(grid)))
        chroma = synchronise(frames.chroma, grid)
        voice = None if vocal_active is None else synchronise(_activity(vocal_active, len(frames.level)), grid)
        level = synchronise(frames.level, grid)
        timbre = np.column_stack([synchronise(frames.timbre, grid), level])
        curve = form.novelty(form.self_similarity(chroma, timbre), max(2, round(self.config.kernel / step)))
        candidates = np.searchsorted(grid, pulse[bars]) if len(bars) else np.arange(0, len(grid), 4)
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
