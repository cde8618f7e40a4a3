"""What a report shows, as values that flows fill in. Whatever is left empty is left out of the page.

Conventions: seconds are wall clock summed over songs; audio paths may lie anywhere, the page links to them
relative to itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from pathlib import Path

from model.evaluation.results import Results


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure of the header: ``Fact("songs", "16")``."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FunnelStage:
    """What one stage did with the songs it saw; `seen` = `ok` + rejected + quarantined + `failed`."""

    stage: str
    seen: int
    ok: int
    rejected: Mapping[str, int] = field(default_factory=dict)  # reason -> songs: the song is not wanted
    quarantined: Mapping[str, int] = field(default_factory=dict)  # reason -> songs: the file can't be used
    failed: int = 0  # our fault or the machine's: to be run again
    seconds: float = 0.0
    failures: Mapping[str, int] = field(default_factory=dict)  # type -> songs, of those that failed
    phases: Mapping[str, float] = field(default_factory=dict)  # s, summed over songs: load, decode, read, work, write
    songs_per_second: float = nan  # of wall time, all workers together; NaN where it was not measured
    audio_per_second: float = nan  # s of audio a second, which is hours an hour
    peak_bytes: int = 0  # of the worker process that needed most; 0 where it was not measured
    shrunk: int = 0  # songs of which a batch had to shrink, as a GPU's memory did not hold it

    @property
    def dropped(self) -> tuple[int, int, int]:
        """Songs rejected, quarantined, failed."""
        return sum(self.rejected.values()), sum(self.quarantined.values()), self.failed


@dataclass(frozen=True, slots=True)
class RejectedSong:
    """A song that did not make it, to be listened to."""

    title: str
    stage: str
    reason: str
    audio: Path | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """One score over all songs that have it; `gate` is where selection cuts."""

    title: str
    values: tuple[float, ...]
    gate: float | None = None
    low: float = 1.0
    high: float = 5.0


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One line of ``metrics.jsonl``: `values` holds those of loss, cml, rtd, lr, val_nll that it has."""

    step: int  # of the whole run
    stage: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class BackendLine:
    """The tool behind one stage."""

    stage: str
    backend: str
    weights_sha256: str  # empty where it has no weights
    licence: str


@dataclass(frozen=True, slots=True)
class SongPanel:
    """One test song to look at and listen to; `key` finds its scores in the results."""

    key: str
    title: str
    text: str
    vocal: Path
    generated: Path
    truth: Path
    mix: Path | None = None


@dataclass(frozen=True, slots=True)
class ReportData:
    """One page."""

    title: str
    facts: tuple[Fact, ...] = ()
    funnel: tuple[FunnelStage, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    training: tuple[MetricPoint, ...] = ()
    results: Results | None = None
    songs: tuple[SongPanel, ...] = ()
    rejected: tuple[RejectedSong, ...] = ()
    backends: tuple[BackendLine, ...] = ()
    notes: tuple[str, ...] = ()


CURVES = ("loss", "cml", "rtd", "lr", "val_nll")


def read_metrics(path: Path) -> tuple[MetricPoint, ...]:
    """The points of a run's ``metrics.jsonl``, in the order of the file."""
    points = []
    for line in path.read_text(encoding="utf-8").splitlines():
        data = json.loads(line)
        values = {name: float(data[name]) for name in CURVES if data.get(name) is not None}
        points.append(MetricPoint(int(data["step"]), str(data["stage"]), values))
    return tuple(points)
