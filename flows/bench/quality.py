"""The bench of the quality gate: do clean songs pass, does each stated fault fail, does more of a fault score lower?

Conventions: the stage's defaults and the gate's; the score is the pooled one that the gate looks at. Faults are put on
clean rendered songs and, for 30 s, on real recordings, at the strengths of `RECORDING_FAULTS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from flows.bench.material import Material, Progress
from flows.bench.meter import Meter
from flows.bench.table import Row, interval
from pipeline.audio import decode, peak_dbfs, resample
from pipeline.quality.stage import Quality, QualityConfig, Rater, build
from pipeline.selection import GateConfig, passes_gate
from pipeline.songs.faults import RECORDING_FAULTS, STATED, apply_fault
from pipeline.songs.render import RenderedSong
from pipeline.songs.score import RATE
from pipeline.types import Audio

STAGE = "quality"
LADDER_SONGS = 20  # songs on which every strength is tried; all others meet the stated ones
REAL_SECONDS = 30.0  # s from the middle of a real recording
SLACK = 0.02  # by which a score may rise and still count as not rising
PEAK_LIMIT = -0.5  # dBFS; the naive gate: a file that peaks higher fails
NAIVE = f"fails where the peak is over {PEAK_LIMIT:g} dBFS"


@dataclass(frozen=True, slots=True)
class _Mark:
    """One clip's score."""

    passes: bool
    score: float
    naive_passes: bool
    naive_score: float  # dBFS below full scale


@dataclass
class _Bench:
    """The rater at work: marks clips and keeps the time."""

    rater: Rater
    progress: Progress
    total: int
    meter: Meter = field(default_factory=Meter)
    done: int = 0

    def mark(self, audio: Audio) -> _Mark:
        with self.meter.timing(audio.duration):
            found: Quality = self.rater(audio)
        self.done += 1
        self.progress(self.done, self.total)
        peak = peak_dbfs(audio)
        return _Mark(passes_gate(GateConfig(), found), found.mean, peak <= PEAK_LIMIT, -peak)

    def faults(self, audio: Audio, seed: int, strengths: Mapping[str, Sequence[float]]) -> dict[str, list[_Mark]]:
        return {
            name: [self.mark(apply_fault(audio, name, strength, seed)) for strength in values]
            for name, values in strengths.items()
        }


def measure(material: Material, progress: Progress) -> list[Row]:
    """Shares of clean and faulty clips on the right side of the gate; order of the scores under each fault."""
    stated = {name: (strength,) for name, strength in STATED.items()}
    ladder = min(LADDER_SONGS, len(material.songs))
    per_ladder, per_clip = 1 + sum(map(len, RECORDING_FAULTS.values())), 1 + len(STATED)
    rest = len(material.songs) - ladder + len(material.backings)
    bench = _Bench(build(QualityConfig()), progress, ladder * per_ladder + rest * per_clip)
    clean: list[_Mark] = []
    faulty: list[dict[str, list[_Mark]]] = []
    for index, folder in enumerate(material.songs):
        audio = decode(str(RenderedSong(folder).mix))
        clean.append(bench.mark(audio))
        faulty.append(bench.faults(audio, index, RECORDING_FAULTS if index < ladder else stated))
    excerpts = [_middle(decode(str(path))) for path in material.backings]
    real_clean = [bench.mark(audio) for audio in excerpts]
    real_faulty = [bench.faults(audio, index, stated) for index, audio in enumerate(excerpts)]
    speed = bench.meter.seconds_per_minute
    rows = [_passing("clean rendered songs at or above the gate", clean, speed, (0.95, 0.99))]
    for name, strength in STATED.items():
        place = {True: RECORDING_FAULTS[name].index(strength), False: 0}
        marks = [found[name][place[index < ladder]] for index, found in enumerate(faulty)]
        rows.append(_failing(f"{name} {strength:g} below the gate", marks, speed, (0.90, 0.97)))
    for name in RECORDING_FAULTS:
        rows += _order(name, clean[:ladder], [found[name] for found in faulty[:ladder]], speed)
    rows.append(_passing("clean real recordings at or above the gate", real_clean, speed))
    rows += [
        _failing(f"{name} {strength:g} on real recordings below the gate", [f[name][0] for f in real_faulty], speed)
        for name, strength in STATED.items()
    ]
    return [row for row in rows if row.n]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, ties sharing their mean rank; 0 where one of the two is constant."""
    a, b = (rankdata(values) - (len(values) + 1) / 2 for values in (first, second))
    size = float(np.sqrt(np.sum(a**2) * np.sum(b**2)))
    return float(np.sum(a * b)) / size if size > 0 else 0.0


def _passing(measure: str, marks: Sequence[_Mark], speed: float, bars: tuple[float, float] | None = None) -> Row:
    return _row(measure, [m.passes for m in marks], [m.naive_passes for m in marks], speed, bars)


def _failing(measure: str, marks: Sequence[_Mark], speed: float, bars: tuple[float, float] | None = None) -> Row:
    return _row(measure, [not m.passes for m in marks], [not m.naive_passes for m in marks], speed, bars)


def _order(name: str, clean: Sequence[_Mark], faulty: Sequence[Sequence[_Mark]], speed: float) -> list[Row]:
    """How the score follows a fault's strength, song by song, from none to the strongest."""
    songs = [[first, *marks] for first, marks in zip(clean, faulty, strict=True)]
    correlations = [rank_correlation([m.score for m in marks], range(len(marks))) for marks in songs]
    naive = [rank_correlation([m.naive_score for m in marks], range(len(marks))) for marks in songs]
    steps = [_unrising([m.score for m in marks]) for marks in songs]
    naive_steps = [_unrising([m.naive_score for m in marks]) for marks in songs]
    correlation = _row(f"{name}: rank correlation of score and strength", correlations, naive, speed, lower=True)
    return [correlation, _row(f"{name}: steps on which the score doesn't rise", steps, naive_steps, speed)]


def _unrising(scores: Sequence[float]) -> float:
    """Share of the steps to more of a fault on which the score falls or stays within `SLACK`."""
    return float(np.mean(np.diff(scores) <= SLACK))


def _row(
    measure: str, values: Sequence[float], naive: Sequence[float], speed: float,
    bars: tuple[float, float] | None = None, lower: bool = False,
) -> Row:  # fmt: skip
    low, high = interval(np.asarray(values, dtype=np.float64))
    must, aim = bars if bars else (None, None)
    mean, baseline = (float(np.mean(v)) if len(v) else float("nan") for v in (values, naive))
    return Row(
        STAGE, measure, mean, low, high, len(values), baseline, NAIVE, speed, must, aim, "lower" if lower else "higher"
    )


def _middle(audio: Audio) -> Audio:
    audio = resample(audio, RATE)  # as rendered songs are; mp3 does not take every rate
    length = min(audio.length, round(REAL_SECONDS * audio.sample_rate))
    start = (audio.length - length) // 2
    return Audio(np.ascontiguousarray(audio.samples[:, start : start + length]), audio.sample_rate)
