"""Selection: what each song is good for: stage 1, stage 2, a person's ear, or nothing.

The stages before only measure; every limit that decides lives here, so that a changed limit redoes nothing before it.
Conventions: pure functions on measured values; reasons are stable slugs that tables count by, all that apply are given,
the gravest first; the numbers behind them are in the rows of the stages that measured.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pipeline.config import Config
from pipeline.detection.stage import Detection
from pipeline.quality.stage import Quality
from pipeline.separation.artifacts import Artifacts
from pipeline.structure.stage import Structure
from pipeline.types import Seconds

NAME, VERSION = "selection", 1

Stage = Literal["stage1", "stage2", "review", "rejected"]


class GateConfig(Config):
    """The quality gate: a section of its own, since it also decides which songs the costly stages are run on."""

    threshold: float = 3.5  # of 1..5; paper A.2
    rule: Literal["mean", "each"] = "mean"  # paper A.2's "overall sub-item score" read as the mean of the five
    scope: Literal["stage2", "all"] = "stage2"  # paper 4.4: a filter of stage 2; "all" is its Fig. 5


class SelectionConfig(Config):
    gate: GateConfig = GateConfig()
    max_intro: Seconds = 30.0  # s; paper A.2 says "too long" without a number; ours, 15 bars at 120 BPM
    max_interlude: Seconds = 45.0  # s of "inst" or silence in a row between the first and last vocal section; ours
    require_chorus: bool = True  # paper A.2
    max_speech: float = 0.15  # share of the song that is speech, 0..1; paper A.2 gives no number; ours
    doubtful: Literal["review", "stage1", "stage2"] = "review"  # where songs go that the paper had people filter (A.2)
    artifacts: Literal["stage2", "all"] = "stage2"  # which stages a song with separation artefacts is kept out of; 4.4
    # What becomes of further files of a recording that is here already; `keep` makes samples of them all. Either way
    # they are in one split. Ours: copies in training are learnt by heart, and would count twice in an evaluation
    duplicates: Literal["first", "keep"] = "first"
    max_silent: float = 0.97  # share of a stem that may be silent, 0..1; beyond it there is no pair to learn from; ours


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where one song goes."""

    stage: Stage
    reasons: tuple[str, ...]  # why not stage 2 (or why a person should listen); empty = stage 2 without a doubt

    @property
    def keep(self) -> bool:
        """Whether the song is training material."""
        return self.stage in ("stage1", "stage2")


def passes_gate(gate: GateConfig, quality: Quality) -> bool:
    """Whether a song's scores reach the threshold (a score on the threshold does)."""
    if gate.rule == "mean":
        return quality.mean >= gate.threshold
    return all(score >= gate.threshold for score in quality.scores.values())


def select(
    config: SelectionConfig, detection: Detection, quality: Quality, artifacts: Artifacts, structure: Structure
) -> Verdict:
    """The verdict on one song: rejected before stage 1 before review before stage 2."""
    fatal = tuple(_fatal(config, detection, quality, artifacts))
    flaws = tuple(_flaws(config, quality, artifacts))
    doubts = tuple(_doubts(config, detection, structure))
    if fatal:
        return Verdict("rejected", fatal)
    if flaws:
        return Verdict("stage1", flaws + doubts)
    if doubts:
        return Verdict(config.doubtful, doubts)
    return Verdict("stage2", ())


def _fatal(config: SelectionConfig, detection: Detection, quality: Quality, artifacts: Artifacts) -> Iterator[str]:
    """What keeps a song out of both stages."""
    if detection.kind != "song":
        yield detection.kind
    if artifacts.vocal_silent_share > config.max_silent:
        yield "vocal_silent"
    if artifacts.accompaniment_silent_share > config.max_silent:
        yield "accompaniment_silent"
    if config.gate.scope == "all" and not passes_gate(config.gate, quality):
        yield f"gate_{config.gate.rule}"
    if config.artifacts == "all" and not artifacts.keep:
        yield "artifacts"


def _flaws(config: SelectionConfig, quality: Quality, artifacts: Artifacts) -> Iterator[str]:
    """What keeps a song out of stage 2."""
    if not passes_gate(config.gate, quality):
        yield f"gate_{config.gate.rule}"
    if not artifacts.keep:
        yield "artifacts"


def _doubts(config: SelectionConfig, detection: Detection, structure: Structure) -> Iterator[str]:
    """What the paper had people filter by ear and by the structural annotation."""
    if intro_seconds(structure) > config.max_intro:
        yield "long_intro"
    if longest_interlude(structure) > config.max_interlude:
        yield "long_interlude"
    if config.require_chorus and all(section.label != "chorus" for section in structure.sections):
        yield "no_chorus"
    if detection.speech > config.max_speech:
        yield "speech_mixed_in"


_UNSUNG = ("intro", "inst", "outro", "silence")


def intro_seconds(structure: Structure) -> Seconds:
    """Time before the first sung section; the whole song where there is none."""
    sung = [section.start for section in structure.sections if section.label not in _UNSUNG]
    return sung[0] if sung else max((section.end for section in structure.sections), default=0.0)


def longest_interlude(structure: Structure) -> Seconds:
    """The longest run of sections without voice between the first and the last sung section; 0 where there is none."""
    sung = [section for section in structure.sections if section.label not in _UNSUNG]
    gaps = (after.start - before.end for before, after in pairwise(sung))
    return max(gaps, default=0.0)
