"""What happened to every track at every stage: the record that progress bars and dashboards are not.

Conventions: ``<root>/stages/<stage>-<key>/part-<batch>.parquet`` holds one row per track; rows that come later (the
next songs of a long batch, a retry, a lowered gate) are a further generation ``part-<batch>-g001.parquet``. A part is
its own commit: create-if-absent, never rewritten but to `forget` a song. A track is *settled* once it has a row that is
not ``failed``: the first such row wins, whoever else worked on it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import Config
from pipeline.records import files, parquet
from pipeline.records.files import Place
from pipeline.records.store import Artefact

Status = Literal["ok", "rejected", "quarantined", "failed"]
"""rejected: the stage judged it; quarantined: `BadInput`; failed: another exception, tried again by the next build."""

_STAGE = re.compile(r"(?P<stage>[a-z0-9_-]+)-(?P<key>[0-9a-f]{8})")
_PART = re.compile(r"part-(?P<batch>\d{5,})(?:-g(?P<generation>\d{3,}))?\.parquet")
_ARTEFACT = pa.struct([("name", pa.string()), ("path", pa.string()), ("sha256", pa.string()), ("bytes", pa.int64())])
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("track_id", "status", "reason", "message", "values")]
    + [("artefacts", pa.list_(_ARTEFACT)), ("seconds", pa.float64())]
    + [(name, pa.string()) for name in ("backend", "weights_sha256", "licence")]
    + [("phases", pa.map_(pa.string(), pa.float64())), ("peak_bytes", pa.int64()), ("begun", pa.float64())]
)


@dataclass(frozen=True, slots=True)
class Row:
    """What one stage says of one track."""

    track_id: str
    status: Status
    reason: str = ""  # short stable slug; empty for ok
    message: str = ""  # for people: value, limit, remedy
    values: str = ""  # JSON of the stage's result (values.dump)
    artefacts: tuple[Artefact, ...] = ()
    seconds: float = 0.0  # s of work on this track
    backend: str = ""
    weights_sha256: str = ""  # empty where the backend has no weights
    licence: str = ""  # of the weights; of the code or the recordings where there are none
    phases: Mapping[str, float] = field(
        default_factory=dict
    )  # s by phase (pipeline.phases); `load` is not in `seconds`
    peak_bytes: int = 0  # of the worker process's memory while on this track; 0 = not measured
    begun: float = 0.0  # s since 1970 by its machine's clock; 0 = not measured

    @property
    def settled(self) -> bool:
        return self.status != "failed"

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: a song's rows go to its worker, and what `dataclass` writes for slots is slow."""
        return Row, _row_cells(self)


_row_cells = attrgetter(*SCHEMA.names)  # `Row` has its fields in this order


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a stage's rows."""

    path: Place
    batch: int
    generation: int  # 0 = the first of its batch
    version: str  # another one when its bytes were written anew


def stage_key(name: str, version: int, config: Config, dependencies: Mapping[str, str]) -> str:
    """8 hex digits of (name, version, its config section, keys of the stages it reads)."""
    identity = {"name": name, "version": version, "config": config.model_dump(mode="json"), "reads": dict(dependencies)}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


class Ledger:
    """The rows of all stages under one root."""

    def __init__(self, root: Place) -> None:
        self.root = root

    def directory(self, stage: str, key: str) -> Place:
        """Where the stage's parts lie, and its `Store`."""
        return _directory(self.root, stage, key)

    def commit(self, stage: str, key: str, batch: int, rows: Iterable[Row], force: bool = False) -> Place:
        """Keep rows for good, all or none of them; the path of the part that holds them (the newest, if none was new).

        Rows of tracks that are settled already are dropped, so two writers of one batch agree on the first one's rows:
        read `rows` afterwards to see what holds. `force` keeps them as the newer truth. No rows for a batch without a
        part makes an empty part: seen, nothing to do.
        """
        wanted = _unique(rows)
        while True:
            parts = self.parts(stage, key, batch)
            known = {} if force else _merge(parts)
            new = [row for row in wanted if row.track_id not in known or not known[row.track_id].settled]
            if parts and not new:
                return parts[-1].path
            generation = len(parts)  # if a listing missed one, its name is taken: look again
            suffix = f"-g{generation:03d}" if generation else ""
            path = self.directory(stage, key) / f"part-{batch:05d}{suffix}.parquet"
            if files.create(path, _encode(new)):
                return path

    def rows(self, stage: str, key: str, batch: int) -> dict[str, Row]:
        """Track id -> its newest row; empty where nothing is committed."""
        return _merge(self.parts(stage, key, batch))

    def all_rows(self, stage: str, key: str) -> dict[str, Row]:
        """Track id -> its newest row, over all batches in their order."""
        return _merge(self.parts(stage, key))

    def parts(self, stage: str, key: str, batch: int | None = None) -> list[Part]:
        """The committed parts of a stage, or of one batch, in the order of batch and generation."""
        directory, parts = self.directory(stage, key), []
        if batch is not None and isinstance(directory, Path):
            return list(_generations(directory, batch))
        for entry in files.entries(directory, "part-" if batch is None else f"part-{batch:05d}"):
            match = _PART.fullmatch(entry.name)
            if match and batch in (None, int(match["batch"])):
                batch_number, generation = int(match["batch"]), int(match["generation"] or 0)
                parts.append(Part(directory / entry.name, batch_number, generation, entry.version))
        return sorted(parts, key=lambda part: (part.batch, part.generation))

    def artefact_paths(self, stage: str, key: str) -> set[str]:
        """Every artefact that any row of any generation names, relative to the stage's directory."""
        told = (row for part in self.parts(stage, key) for row in _rows_of(part))
        return {artefact.path for row in told for artefact in row.artefacts}

    def stages(self) -> list[tuple[str, str]]:
        """(stage, key) of every directory, sorted."""
        found = (_STAGE.fullmatch(entry.name) for entry in files.entries(self.root / "stages") if entry.folder)
        return sorted((match["stage"], match["key"]) for match in found if match)

    def story(self, track_id: str, batch: int | None = None) -> list[tuple[str, str, Row]]:
        """(stage, key, row) of one track, every generation, by time of commit; `batch` saves reading the others.

        Generations of one stage stay in their order, whatever the clock said.
        """
        told = []
        for stage, key in self.stages():
            latest = ""
            for part in self.parts(stage, key, batch):
                table = parquet.read(part.path)
                for row in _decode(table.filter(pc.equal(table["track_id"], track_id))):
                    latest = max(latest, table.schema.metadata[b"committed_at"].decode())
                    told.append((latest, stage, key, row))
        return [(stage, key, row) for _, stage, key, row in sorted(told, key=lambda item: item[:3])]

    def forget(self, track_id: str, batch: int, only: str = "") -> int:
        """Take every row of a track, or those of `only` a stage, out of the parts of its batch; how many there were.

        Other rows stay as they are.
        """
        gone = 0
        for stage, key in self.stages():
            for part in self.parts(stage, key, batch) if only in ("", stage) else ():
                table = parquet.read(part.path)
                kept = table.filter(pc.not_equal(table["track_id"], track_id))
                if kept.num_rows < table.num_rows:
                    files.replace(part.path, parquet.encode(kept))
                gone += table.num_rows - kept.num_rows
        return gone


@lru_cache(maxsize=64)  # asked for every stage of every batch
def _directory(root: Place, stage: str, key: str) -> Place:
    if not _STAGE.fullmatch(f"{stage}-{key}"):
        raise ValueError(f"stage {stage!r} with key {key!r}: need a-z, 0-9, '_', '-' and 8 hex digits")
    return root / "stages" / f"{stage}-{key}"


def _generations(directory: Path, batch: int) -> Iterator[Part]:
    """The parts of one batch, asked for by name: a folder holds those of all batches, and none is ever taken away."""
    generation, path = 0, directory / f"part-{batch:05d}.parquet"
    while version := files.version(path):
        yield Part(path, batch, generation, version)
        generation += 1
        path = directory / f"part-{batch:05d}-g{generation:03d}.parquet"


def _unique(rows: Iterable[Row]) -> list[Row]:
    by_track: dict[str, Row] = {}
    for row in rows:
        if row.status not in get_args(Status):
            raise ValueError(f"track {row.track_id}: status {row.status!r} is none of {get_args(Status)}")
        if row.track_id in by_track:
            raise ValueError(f"track {row.track_id} has two rows in one commit; a stage says one thing of a track")
        by_track[row.track_id] = row
    return [by_track[track_id] for track_id in sorted(by_track)]


def _merge(parts: Iterable[Part]) -> dict[str, Row]:
    return {row.track_id: row for part in parts for row in _rows_of(part)}


@lru_cache(maxsize=256)  # parts; all stages of a batch in 16 parts each, some 20 MB. Ours
def _rows_of(part: Part) -> list[Row]:
    """The rows of a part, read once: every stage of a batch looks at those of the stages before it."""
    return _decode(parquet.read(part.path))


def _encode(rows: list[Row]) -> bytes:
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    columns["artefacts"] = [[_plain(artefact) for artefact in row.artefacts] for row in rows]
    columns["phases"] = [list(row.phases.items()) for row in rows]
    moment = datetime.now(UTC).isoformat(timespec="microseconds")
    schema = SCHEMA.with_metadata({"committed_at": moment})
    return parquet.encode(pa.table({name: columns[name] for name in schema.names}, schema=schema))


def _plain(artefact: Artefact) -> dict[str, Any]:
    return {"name": artefact.name, "path": artefact.path, "sha256": artefact.sha256, "bytes": artefact.bytes}


def _decode(table: Any) -> list[Row]:
    """The rows of a table, column by column: a quarter of the time that a dictionary for each row takes."""
    return [Row(*cells) for cells in zip(*(_cells(table, name) for name in SCHEMA.names), strict=True)]


def _cells(table: Any, name: str) -> list[Any]:
    if name not in table.column_names:  # a part of an older version
        return [{} if name == "phases" else 0] * table.num_rows
    cells: list[Any] = table[name].to_pylist()
    if name == "phases":
        return [dict(pairs) for pairs in cells]
    if name == "artefacts":
        return [tuple(Artefact(**item) for item in group) for group in cells]
    return cells
