"""What a stage did and what it took, from the rows that the ledger holds: per batch, and merged over batches.

Conventions: pure functions of columns; neither the order of rows nor their split into parts matters, so a resumed build
reports what an undisturbed one reports. *Seconds* are work summed over songs, without the loading of models; *wall* is
the time during which anybody worked on the stage: unions of intervals, so neither pauses between runs nor workers side
by side count. Rows of older versions don't say when they were made: they count, and rates leave them out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.batching import OUT_OF_MEMORY

GAP = 10.0  # s; two songs of a batch with less between them belong to one run, the engine's hand-over included. Ours
COLUMNS = ("track_id", "status", "reason", "seconds", "phases", "peak_bytes", "begun")  # of the ledger
BACKEND = ("backend", "weights_sha256", "licence")
MESSAGE = ("message",)
_SEPARATOR = "\x1f"  # between the words of a label; none of them holds it
Interval = tuple[float, float]
Counts = Mapping[str, int]  # reason -> songs


@dataclass(frozen=True, slots=True)
class StageStatistics:
    """One stage over one batch, or over several."""

    stage: str
    key: str
    ok: int = 0
    rejected: Counts = field(default_factory=dict)
    quarantined: Counts = field(default_factory=dict)
    failed: Counts = field(default_factory=dict)
    seconds: float = 0.0  # of work, summed over songs
    phases: Mapping[str, float] = field(default_factory=dict)  # s; `load` is not in `seconds`
    audio_seconds: float = 0.0  # of the songs seen
    peak_bytes: int = 0  # of the worker process that needed most; 0 = not measured
    runs: tuple[Interval, ...] = ()  # s since 1970; disjoint, sorted
    timed: int = 0  # songs of which it is known when they were worked on
    timed_audio: float = 0.0  # s of audio in them
    backends: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # (backend, weights, licence) -> songs
    shrunk: int = 0  # songs of which a batch had to shrink, as a GPU's memory did not hold it

    @property
    def seen(self) -> int:
        return self.settled + sum(self.failed.values())

    @property
    def settled(self) -> int:
        """Songs with an answer; failed ones are tried again."""
        return self.ok + sum(self.rejected.values()) + sum(self.quarantined.values())

    @property
    def wall(self) -> float:
        """s during which anybody worked on it."""
        return float(sum(end - start for start, end in self.runs))

    @property
    def songs_per_second(self) -> float:
        """Of wall time; NaN where it is not known."""
        return self.timed / self.wall if self.wall > 0 else float("nan")

    @property
    def audio_per_second(self) -> float:
        """Seconds of audio a second of wall time, which is hours an hour; NaN where it is not known."""
        return self.timed_audio / self.wall if self.wall > 0 else float("nan")


def by_batch(stage: str, key: str, table: Any, audio: NDArray[np.float64]) -> dict[int, StageStatistics]:
    """Batch -> what the stage did there.

    `table` is a `pyarrow.Table` with one row per track: ``batch``, `COLUMNS` and, if they are there, `BACKEND` and
    `MESSAGE`; `audio` ``[rows]`` is the length of each track in s.
    """
    if table.num_rows == 0:
        return {}
    batches, batch = np.unique(table["batch"].to_numpy(), return_inverse=True)
    sums = _Sums(batch, len(batches))
    begun, phases = _floats(table["begun"]), _phases(table["phases"])
    ends = begun + sum(phases.values(), np.zeros(table.num_rows))
    timed = begun > 0
    endings, backends = sums.labels(table, ("status", "reason")), sums.labels(table, BACKEND)
    spent = {name: sums.add(values) for name, values in phases.items()}
    seconds, heard, peak = sums.add(_floats(table["seconds"])), sums.add(audio), sums.most(_floats(table["peak_bytes"]))
    runs = [union(begun[rows], ends[rows], GAP) for rows in sums.rows(timed)]
    songs, known = sums.add(timed.astype(np.float64)), sums.add(np.where(timed, audio, 0.0))
    shrunk = sums.add(_shrunk(table))
    return {
        int(number): StageStatistics(
            stage=stage,
            key=key,
            ok=sum(_reasons(endings[at], "ok").values()),
            rejected=_reasons(endings[at], "rejected"),
            quarantined=_reasons(endings[at], "quarantined"),
            failed=_reasons(endings[at], "failed"),
            seconds=float(seconds[at]),
            phases={name: float(values[at]) for name, values in spent.items() if values[at] > 0},
            audio_seconds=float(heard[at]),
            peak_bytes=int(peak[at]),
            runs=runs[at],
            timed=int(songs[at]),
            timed_audio=float(known[at]),
            backends={names: songs for names, songs in backends[at].items() if names[0]},  # type: ignore[misc]
            shrunk=int(shrunk[at]),
        )
        for at, number in enumerate(batches)
    }


def merged(stage: str, key: str, parts: Iterable[StageStatistics]) -> StageStatistics:
    """Several batches of a stage as one; of none, nothing done."""
    told = list(parts)
    runs = np.array([run for part in told for run in part.runs], dtype=np.float64).reshape(-1, 2)
    return StageStatistics(
        stage=stage,
        key=key,
        ok=sum(part.ok for part in told),
        rejected=_total(part.rejected for part in told),
        quarantined=_total(part.quarantined for part in told),
        failed=_total(part.failed for part in told),
        seconds=sum(part.seconds for part in told),
        phases=_total(part.phases for part in told),
        audio_seconds=sum(part.audio_seconds for part in told),
        peak_bytes=max((part.peak_bytes for part in told), default=0),
        runs=union(runs[:, 0], runs[:, 1]),
        timed=sum(part.timed for part in told),
        timed_audio=sum(part.timed_audio for part in told),
        backends=_total(part.backends for part in told),
        shrunk=sum(part.shrunk for part in told),
    )


def union(starts: NDArray[np.float64], ends: NDArray[np.float64], gap: float = 0.0) -> tuple[Interval, ...]:
    """The union of intervals, sorted and disjoint; those with at most `gap` between them become one."""
    if not len(starts):
        return ()
    order = np.argsort(starts, kind="stable")
    starts, reached = starts[order], np.maximum.accumulate(ends[order])
    first = np.concatenate([[True], starts[1:] > reached[:-1] + gap])
    last = np.concatenate([first[1:], [True]])
    return tuple(zip(starts[first].tolist(), reached[last].tolist(), strict=True))


class _Sums:
    """Sums over the rows of each batch."""

    def __init__(self, batch: NDArray[np.intp], batches: int) -> None:
        self.batch, self.batches = batch, batches

    def add(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.bincount(self.batch, values, self.batches).astype(np.float64)
        return total

    def most(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.zeros(self.batches)
        np.maximum.at(found, self.batch, values)
        return found

    def rows(self, chosen: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
        """Which rows of each batch are chosen."""
        found = np.flatnonzero(chosen)
        found = found[np.argsort(self.batch[found], kind="stable")]
        return np.split(found, np.searchsorted(self.batch[found], np.arange(1, self.batches)))

    def labels(self, table: Any, names: Sequence[str]) -> list[Counter[tuple[str, ...]]]:
        """How many rows of each batch have which words in these columns; none where the table lacks them."""
        counted: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(self.batches)]
        if not set(names) <= set(table.column_names):
            return counted
        joined = pc.binary_join_element_wise(*(table[name] for name in names), _SEPARATOR)
        coded = joined.combine_chunks().dictionary_encode()
        words = [tuple(text.split(_SEPARATOR)) for text in coded.dictionary.to_pylist()]
        found, songs = np.unique(self.batch * len(words) + coded.indices.to_numpy(), return_counts=True)
        for at, count in zip(found.tolist(), songs.tolist(), strict=True):
            counted[at // len(words)][words[at % len(words)]] = count
        return counted


def _floats(column: Any) -> NDArray[np.float64]:
    """Nulls of older parts are 0."""
    values: NDArray[np.float64] = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy()
    return values


def _shrunk(table: Any) -> NDArray[np.float64]:
    """``[rows]``: 1 where the message tells of a batch that had to shrink; 0 everywhere where none was read."""
    if "message" not in table.column_names:
        return np.zeros(table.num_rows)
    told = pc.match_substring(pc.fill_null(table["message"], ""), OUT_OF_MEMORY)
    return _floats(told)


def _phases(column: Any) -> dict[str, NDArray[np.float64]]:
    """Phase -> seconds ``[rows]``."""
    lists = column.combine_chunks()
    keys = lists.keys.dictionary_encode()
    row = np.repeat(np.arange(len(lists)), np.diff(lists.offsets.to_numpy()))
    table = np.zeros((len(keys.dictionary), len(lists)))
    table[keys.indices.to_numpy(), row] = lists.items.to_numpy()
    return dict(zip(keys.dictionary.to_pylist(), table, strict=True))


def _reasons(endings: Counter[tuple[str, ...]], status: str) -> Counts:
    return {reason: songs for (ended, reason), songs in sorted(endings.items()) if ended == status}


def _total(counts: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
    total: dict[Any, Any] = {}
    for counted in counts:
        for name, number in counted.items():
            total[name] = total.get(name, 0) + number
    return total
