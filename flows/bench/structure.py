"""The bench of structure: beats, bars, sections and key of rendered songs, and the form faults that selection finds.

Conventions: every file goes the way of a build: the mix through detection, structure (told where detection heard a
voice) and selection's rules with flawless quality and stems. Form is measured on songs without a fault, faults on all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import get_args

import mir_eval
import numpy as np
from numpy.typing import NDArray

from flows.bench.material import Material, Progress
from flows.bench.meter import Meter
from flows.bench.table import Row, interval
from pipeline.audio import decode
from pipeline.detection.stage import Detection, DetectionConfig
from pipeline.detection.stage import build as build_detector
from pipeline.quality.stage import Quality
from pipeline.selection import SelectionConfig, select
from pipeline.separation.artifacts import Artifacts
from pipeline.songs.render import RenderedSong
from pipeline.songs.truth import Truth, read_truth
from pipeline.structure.stage import Structure, StructureConfig
from pipeline.structure.stage import build as build_structure
from pipeline.types import Label, Section

STAGE = "structure"
LABELS: tuple[Label, ...] = get_args(Label)
NAMES: tuple[str, ...] = LABELS
FRAME = 0.1  # s, of the label accuracy
NAIVE_SECTION, NAIVE_BEAT, NAIVE_BAR, NAIVE_KEY = 16.0, 0.5, 2.0, "C major"  # s, s (120 a minute), s
FLAWLESS = Quality({}, 5.0), Artifacts(-60.0, -60.0, -120.0, 0.0, 0.0, ())
FAULTS = {  # what selection says -> the rendered fault that it should say it of
    "chorus absent": (("no_chorus",), ("no_chorus",)),
    "intro or interlude too long": (("long_intro", "long_interlude"), ("long_intro", "long_interlude")),
    "speech mixed in": (("speech_mixed_in", "speech"), ("speech",)),
}
MEASURES: dict[str, tuple[str, float | None, float | None]] = {  # figure -> naive method, must, aim
    "boundary F, 3 s": ("every 16 s", 0.70, 0.90),
    "boundary F, 0.5 s": ("every 16 s", 0.45, 0.75),
    "label accuracy, 8 labels": ("the most frequent", None, None),
    "beat F": ("120 a minute", 0.90, 0.97),
    "downbeat F": ("every 2 s", None, None),
    "key, MIREX weighted": (NAIVE_KEY, 0.80, 0.92),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One song, what is true of it and what the stages say."""

    truth: Truth
    detection: Detection
    structure: Structure


def measure(material: Material, progress: Progress) -> list[Row]:
    """All rows; the time is that of the structure stage alone."""
    songs = [*material.songs, *(folder for folders in material.faulty.values() for folder in folders)]
    detector, extractor, meter = build_detector(DetectionConfig()), build_structure(StructureConfig()), Meter()
    cases = []
    for done, folder in enumerate(songs):
        song = RenderedSong(Path(folder))
        audio = decode(str(song.mix))
        detection = detector(audio)
        with meter.timing(audio.duration):
            structure = extractor(audio, detection.vocal_active)
        cases.append(Case(read_truth(song.truth), detection, structure))
        progress(done + 1, len(songs))
    return rows(cases, meter.seconds_per_minute)


def rows(cases: Sequence[Case], seconds_per_minute: float) -> list[Row]:
    """Form and beats over songs without a fault, then the faults; nothing where there is no such song."""
    clean = [case for case in cases if not case.truth.fault]
    found: list[Row] = []
    if clean:
        usual = most_frequent([case.truth for case in clean])
        values = [figures(case.truth, case.structure) for case in clean]
        naive = [figures(case.truth, guess(case.truth.duration, usual)) for case in clean]
        for name, (method, must, aim) in MEASURES.items():
            scores, floor = [v[name] for v in values], float(np.mean([v[name] for v in naive]))
            low, high = interval(scores)
            mean = float(np.mean(scores))
            found.append(Row(STAGE, name, mean, low, high, len(clean), floor, method, seconds_per_minute, must, aim))
    return found + (_fault_rows(cases, seconds_per_minute) if len(clean) < len(cases) else [])


def figures(truth: Truth, structure: Structure) -> dict[str, float]:
    """The figures of one song, 0..1 each."""
    true, found = _edges(truth), np.array([(s.start, s.end) for s in structure.sections])
    found[-1, 1] = true[-1, 1]  # mir_eval wants one end
    return {
        "boundary F, 3 s": float(mir_eval.segment.detection(true, found, window=3.0, trim=True)[2]),
        "boundary F, 0.5 s": float(mir_eval.segment.detection(true, found, window=0.5, trim=True)[2]),
        "label accuracy, 8 labels": _label_accuracy(truth, structure.sections),
        "beat F": _beat_f(truth.beats, structure.beats),
        "downbeat F": _beat_f(truth.downbeats, structure.downbeats),
        "key, MIREX weighted": float(mir_eval.key.weighted_score(truth.key, structure.key)),
    }


def guess(duration: float, label: Label) -> Structure:
    """What one says without listening."""
    edges = [*np.arange(0, duration - NAIVE_SECTION / 2, NAIVE_SECTION), duration]
    sections = tuple(Section(float(a), float(b), label) for a, b in pairwise(edges))
    beats, bars = np.arange(0, duration, NAIVE_BEAT), np.arange(0, duration, NAIVE_BAR)
    return Structure(sections, tuple(beats.tolist()), tuple(bars.tolist()), 120.0, NAIVE_KEY)


def most_frequent(truths: Sequence[Truth]) -> Label:
    """The label that most of the songs' time has."""
    seconds = dict.fromkeys(LABELS, 0.0)
    for truth in truths:
        for section in truth.sections:
            seconds[LABELS[NAMES.index(section.label)]] += section.end - section.start
    return max(LABELS, key=lambda label: seconds[label])


def balanced_accuracy(table: NDArray[np.float64]) -> float:
    """Mean recall of both classes; rows are songs, columns truth and guess (0 or 1). NaN where a class is missing."""
    truth, said = table[:, 0] > 0, table[:, 1] > 0
    if truth.all() or not truth.any():
        return float("nan")
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def reasons(case: Case, config: SelectionConfig) -> tuple[str, ...]:
    """What selection says of a song whose recording and stems are flawless."""
    return select(config, case.detection, *FLAWLESS, case.structure).reasons


def _fault_rows(cases: Sequence[Case], seconds_per_minute: float) -> list[Row]:
    """Balanced accuracy of each fault against all other songs, and the mean of the three."""
    said = [reasons(case, SelectionConfig()) for case in cases]
    columns = [
        np.array([(c.truth.fault in faults, any(r in slugs for r in rs)) for c, rs in zip(cases, said, strict=True)])
        for slugs, faults in FAULTS.values()
    ]
    tables = {name: column.astype(np.float64) for name, column in zip(FAULTS, columns, strict=True)}
    tables = {name: table for name, table in tables.items() if table[:, 0].any()}
    found = [_fault_row(name, table, len(tables[name]), seconds_per_minute) for name, table in tables.items()]
    if len(tables) == len(FAULTS):
        found.append(_fault_row("form faults, mean", np.hstack(list(tables.values())), len(cases), seconds_per_minute))
    return found


def _fault_row(name: str, table: NDArray[np.float64], count: int, seconds_per_minute: float) -> Row:
    """`table` has a pair of columns for each fault."""

    def statistic(drawn: NDArray[np.float64]) -> float:
        return float(np.mean([balanced_accuracy(drawn[:, i : i + 2]) for i in range(0, drawn.shape[1], 2)]))

    low, high = interval(table, statistic)
    measure_name = f"{name}, balanced accuracy"
    value = statistic(table)
    return Row(STAGE, measure_name, value, low, high, count, 0.5, "never", seconds_per_minute, 0.80, 0.95)


def _edges(truth: Truth) -> NDArray[np.float64]:
    return np.array([(section.start, section.end) for section in truth.sections])


def _label_accuracy(truth: Truth, sections: Sequence[Section]) -> float:
    times = np.arange(FRAME / 2, truth.duration, FRAME)
    true = _labels_at(times, [(s.start, s.label) for s in truth.sections])
    found = _labels_at(times, [(s.start, s.label) for s in sections])
    return float(np.mean(true == found))


def _labels_at(times: NDArray[np.float64], sections: Sequence[tuple[float, str]]) -> NDArray[np.str_]:
    starts = np.array([start for start, _ in sections])
    labels = np.array([label for _, label in sections])
    return np.asarray(labels[np.clip(np.searchsorted(starts, times, side="right") - 1, 0, None)])


def _beat_f(true: Sequence[float], found: Sequence[float]) -> float:
    """70 ms, after the first 5 s (mir_eval's convention); 0 where nothing was found."""
    trimmed = [mir_eval.beat.trim_beats(np.asarray(times, dtype=float)) for times in (true, found)]
    return float(mir_eval.beat.f_measure(*trimmed)) if all(len(times) for times in trimmed) else 0.0
