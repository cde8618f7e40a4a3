"""How far a build is, how fast it goes, and when it will be done.

Conventions: what is not known yet (whether a song that has not been separated will be tokenized) is drawn from what
other songs got at that stage, with a fixed seed. An estimate counts the work that is left at the pace so far, with as
many workers side by side as there were on average; a stage that no song has been through has no pace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from flows.survey import View
from flows.tally import StageStatistics, by_batch, merged, union
from model.evaluation.units import duration
from pipeline.records.ledger import Row

SAMPLE = 2000  # songs drawn to tell how many a stage will get: within 2 % of them. Ours
SEED = 0
NAMED = 3  # stages of unknown pace that a line names


@dataclass(frozen=True, slots=True)
class StageProgress:
    """One stage of a build."""

    done: StageStatistics
    wanted: int  # songs that it has or is going to get, as far as is known
    expected: float  # the same, with a guess at what is not known yet
    eta: float  # s until its last song, were it alone; NaN where no song has been through it

    @property
    def left(self) -> float:
        """Songs still to come, failed ones included."""
        return max(0.0, self.expected - self.done.settled)


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """A build at one moment."""

    songs: int
    audio_seconds: float
    stages: tuple[StageProgress, ...]
    eta: float  # s until all is done, by the stages whose pace is known
    unknown: tuple[str, ...]  # stages with songs to come whose pace is not known; empty = `eta` is all of it
    latest: float  # when the last song was done, s since 1970; 0 = not known
    batches: Mapping[str, Mapping[int, StageStatistics]]  # stage -> batch -> what it did there

    @property
    def share(self) -> float:
        """Of all songs times stages, how many have their answer, 0..1."""
        whole = sum(stage.expected for stage in self.stages)
        return sum(stage.expected - stage.left for stage in self.stages) / whole if whole else 0.0


def statistics_of(view: View) -> dict[str, dict[int, StageStatistics]]:
    """Stage -> batch -> what the stage did there, counting the rows that are in force."""
    found = {}
    for stage, told in view.told.items():
        songs = np.flatnonzero(view.counts[stage])
        table = told.table.take(pa.array(told.row[songs]))
        found[stage] = by_batch(stage, view.context.keys[stage], table, view.audio[songs])
    return found


def progress_of(view: View) -> BuildProgress:
    """Where the build stands."""
    batches = statistics_of(view)
    done = {stage: merged(stage, view.context.keys[stage], found.values()) for stage, found in batches.items()}
    expected = expected_songs(view)
    stages = tuple(_stage(done[stage], int(view.wanted[stage].sum()), expected[stage]) for stage in view.told)
    runs = np.array([run for told in done.values() for run in told.runs], dtype=np.float64).reshape(-1, 2)
    return BuildProgress(
        songs=view.songs.num_rows,
        audio_seconds=float(view.audio.sum()),
        stages=stages,
        eta=_eta(stages, sum(end - start for start, end in union(runs[:, 0], runs[:, 1]))),
        unknown=tuple(stage.done.stage for stage in stages if stage.left and not stage.done.timed),
        latest=float(runs[:, 1].max(initial=0.0)),
        batches=batches,
    )


def expected_songs(view: View) -> dict[str, float]:
    """Stage -> how many songs it will have got in the end."""
    undecided = np.flatnonzero(view.open)
    total = {stage: float(flags[~view.open].sum()) for stage, flags in view.wanted.items()}
    if not len(undecided):
        return total
    rng = np.random.default_rng(SEED)
    drawn = rng.choice(undecided, min(len(undecided), SAMPLE), replace=False)
    donors = {stage: _Donors(view, stage, rng) for stage in view.told}
    for song in drawn.tolist():
        known = {stage: view.row(stage, song) for stage in view.told if view.settled(stage)[song]}
        for stage in view.admitted(song, partial(_known_or_drawn, known, donors), unknown=True):
            total[stage] += len(undecided) / len(drawn)
    return total


def reasons(counted: Mapping[str, int]) -> str:
    """``reason 3, other 1``"""
    return ", ".join(f"{reason} {songs}" for reason, songs in sorted(counted.items(), key=lambda item: -item[1]))


def to_go(progress: BuildProgress) -> str:
    """``done``, ``2 h 10 min to go``, ``at least 2 h 10 min to go (no song has been through separation)``."""
    if progress.share >= 1:
        return "done"
    if not progress.unknown:
        return f"{duration(progress.eta)} to go"
    least = f"at least {duration(progress.eta)} to go" if progress.eta else "time to go not known"
    named = ", ".join(progress.unknown[:NAMED]) + (", …" if len(progress.unknown) > NAMED else "")
    return f"{least} (no song has been through {named})"


def _known_or_drawn(known: Mapping[str, Row], donors: Mapping[str, "_Donors"], stage: str) -> Row:
    return known.get(stage) or donors[stage].draw()


class _Donors:
    """Rows of songs that a stage is done with, lent to those that it still has to get."""

    def __init__(self, view: View, stage: str, rng: np.random.Generator) -> None:
        songs = np.flatnonzero(view.settled(stage))
        drawn = rng.choice(songs, min(len(songs), SAMPLE), replace=False) if len(songs) else songs
        self.rows: Sequence[Row] = [view.row(stage, song) for song in drawn.tolist()] or [Row("", "ok")]
        self.rng = rng

    def draw(self) -> Row:
        return self.rows[int(self.rng.integers(len(self.rows)))]


def _stage(done: StageStatistics, wanted: int, expected: float) -> StageProgress:
    left = max(0.0, expected - done.settled)
    eta = 0.0 if not left else left / done.songs_per_second if done.timed else float("nan")
    return StageProgress(done, wanted, max(expected, float(done.settled)), eta)


def _eta(stages: Sequence[StageProgress], wall: float) -> float:
    """Work that is left over workers that were busy at once."""
    busy = [(stage, sum(stage.done.phases.values())) for stage in stages if stage.done.timed]
    work = sum(seconds for _, seconds in busy)
    left = sum(stage.left * seconds / stage.done.timed for stage, seconds in busy)
    return left / (work / wall) if work and wall else 0.0
