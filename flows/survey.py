"""All songs of a build by columns: what each stage said of each, which rows count, and which songs still lack one.

Conventions: arrays are over songs, in the order of the catalogue; a song that was forgotten is no song. What counts is
what `flows.stages.graph` says, asked once for each kind of song: songs that every admission treats alike are of a kind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from flows.stages.context import Context, Rows
from flows.stages.graph import NODES, gets, stage_keys
from flows.tally import COLUMNS
from pipeline.augmentation import plan
from pipeline.quality.stage import Quality
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Ledger, Row, Status
from pipeline.records.scan import Scan, scan_catalog
from pipeline.records.splits import SplitError
from pipeline.records.values import load
from pipeline.selection import passes_gate

NONE, OK, FAILED = 0, 1, 4
STATUS: tuple[Status | None, ...] = (None, "ok", "rejected", "quarantined", "failed")
JUDGED = ("quality", "selection")  # stages whose values decide who gets where
SONGS = ("track_id", "duration", "split", "artist", "error")  # columns of the catalogue
UNREAD: Mapping[str, Any] = dict.fromkeys(("sha256", "text", "licence", "vocal_uri", "accompaniment_uri"), "")
STAGE2 = '"stage":"stage2"'  # in the canonical JSON of a `Verdict`

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Told:
    """What one stage said."""

    table: Any  # `pyarrow.Table` of its rows, every generation
    row: NDArray[np.intp]  # [songs] the newest in `table`; -1 = none
    status: NDArray[np.int8]  # [songs] index into `STATUS`


class Survey:
    """One build, to be looked at as often as one likes: each look reads only what was committed since the last.

    `more` are columns of the ledger beside those that every view has.
    """

    def __init__(self, context: Context, more: Sequence[str] = ()) -> None:
        self.context, ledger = context, Ledger(context.root)
        columns = (*COLUMNS, *more)
        self.scans = {
            stage: Scan(ledger, stage, context.keys[stage], (*columns, *(("values",) if stage in JUDGED else ())))
            for stage in NODES
            if stage in context.keys
        }

    def look(self) -> "View":
        songs = scan_catalog(self.context.root, SONGS)
        return View(self.context, songs, {stage: _told(scan.table(), songs) for stage, scan in self.scans.items()})


class View:
    """A build at one moment."""

    def __init__(self, context: Context, songs: Any, told: Mapping[str, Told]) -> None:
        self.context, self.songs, self.told = context, songs, told
        self.audio: NDArray[np.float64] = songs["duration"].to_numpy()  # s of each song

    @property
    def counts(self) -> Mapping[str, Flags]:
        """Stage -> whether the song has a row that is in force."""
        return self._judged[0]

    @property
    def wanted(self) -> Mapping[str, Flags]:
        """Stage -> whether the stage is for the song, as far as is known by now."""
        return self._judged[1]

    def settled(self, stage: str) -> Flags:
        """Whether the song has its answer from the stage; a failed one is tried again."""
        done: Flags = self.counts[stage] & (self.told[stage].status != FAILED)
        return done

    @cached_property
    def open(self) -> Flags:
        """Whether some stage still has to work on the song."""
        left: Flags = np.zeros(self.songs.num_rows, bool)
        for stage in self.told:
            left |= self.wanted[stage] & ~self.settled(stage)
        return left

    def track(self, song: int) -> CatalogRow:
        """What admissions need to know of a song."""
        told = self.songs.slice(song, 1).select(list(SONGS)).to_pylist()[0]
        return CatalogRow(uris=("",), bytes=0, sample_rate=0, channels=0, **UNREAD, **told)

    def row(self, stage: str, song: int) -> Row:
        """What admissions need to know of a song's row."""
        told = self.told[stage]
        values = told.table["values"][int(told.row[song])].as_py() if stage in JUDGED else ""
        status = STATUS[told.status[song]]
        assert status is not None
        return Row("", status, values=values)

    @cached_property
    def _judged(self) -> tuple[dict[str, Flags], dict[str, Flags]]:
        present = {stage: told.status != NONE for stage, told in self.told.items()}
        if dict(self.context.keys) != stage_keys(self.context.recipe):  # whom those keys' recipe let in can't be told
            return present, present
        kinds, first, which = np.unique(self._kinds(), return_index=True, return_inverse=True)
        wanted = {stage: np.zeros(len(kinds), bool) for stage in self.told}
        counts = {stage: np.zeros(len(kinds), bool) for stage in self.told}
        for kind, song in enumerate(first.tolist()):
            rows = {stage: self.row(stage, song) for stage in self.told if present[stage][song]}
            for stage in self.admitted(song, rows.get):
                wanted[stage][kind], counts[stage][kind] = True, stage in rows
        return ({s: flags[which] for s, flags in counts.items()}, {s: flags[which] for s, flags in wanted.items()})

    def admitted(self, song: int, row_of: Callable[[str], Row | None], unknown: bool = False) -> list[str]:
        """The stages that get a song if their rows are what `row_of` says; `unknown` where that can't be told yet."""
        track, kept, found = self.track(song), dict[str, Row](), []
        for stage in self.told:
            if self._gets(stage, track, kept, unknown):
                found.append(stage)
                if row := row_of(stage):
                    kept[stage] = row
        return found

    def _gets(self, stage: str, track: CatalogRow, kept: Rows, unknown: bool) -> bool:
        try:
            return gets(NODES[stage], self.context, track, kept)
        except (SplitError, ValueError):  # splits are not fixed yet, or a row that was made up has no values
            return unknown

    def _kinds(self) -> NDArray[np.int64]:
        """A number for each song; songs with the same one are admitted to the same stages."""
        kinds = np.zeros(self.songs.num_rows, np.int64)
        for told in self.told.values():
            kinds = kinds * len(STATUS) + told.status
        return (kinds * 2 + self._above_gate()) * 2 + self._copied()

    def _above_gate(self) -> Flags:
        gate, above = self.context.recipe.selection.gate, np.zeros(self.songs.num_rows, bool)
        if gate.scope == "all":
            for song, values in self._values("quality"):
                above[song] = passes_gate(gate, load(Quality, values))
        return above

    def _copied(self) -> Flags:
        """Whether selection and chance want a copy of the song; it may lack what the copy is made of."""
        recipe, copied = self.context.recipe, np.zeros(self.songs.num_rows, bool)
        for song, values in self._values("selection"):
            if STAGE2 in values:
                track_id = self.songs["track_id"][song].as_py()
                copied[song] = plan(recipe.augmentation.copies, recipe.seed, track_id) != "orig" and self._trains(song)
        return copied

    def _trains(self, song: int) -> bool:
        try:
            return self.context.split(self.track(song)) == "train"
        except SplitError:
            return False

    def _values(self, stage: str) -> list[tuple[int, str]]:
        """(song, values) of the songs that the stage let pass."""
        songs = np.flatnonzero(self.told[stage].status == OK)
        values = self.told[stage].table["values"].take(pa.array(self.told[stage].row[songs])).to_pylist()
        return list(zip(songs.tolist(), values, strict=True))


def _told(table: Any, songs: Any) -> Told:
    """The newest row of each song: rows of a track are in the order of their commits."""
    row = np.full(songs.num_rows, -1, np.intp)
    status = np.zeros(songs.num_rows + 1, np.int8)
    ids = songs["track_id"].combine_chunks()
    song = pc.fill_null(pc.index_in(table["track_id"], value_set=ids), songs.num_rows).to_numpy()
    known = np.flatnonzero(song < songs.num_rows)
    row[song[known]] = known
    codes = pc.index_in(table["status"], value_set=pa.array(STATUS, pa.string())).to_numpy()
    status[:-1][row >= 0] = codes[row[row >= 0]]
    return Told(table, row, status[:-1])
