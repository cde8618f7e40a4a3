"""The songs that a build dropped, as a table that one can query: which, where, why, and what to do about it."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.stages.context import Context
from flows.survey import STATUS, Survey
from pipeline.errors import BadInput
from pipeline.records import files, parquet
from pipeline.records.files import Place
from pipeline.records.ledger import Status
from pipeline.records.scan import scan_catalog

DROPPED: tuple[Status, ...] = ("quarantined", "rejected", "failed")
TEXTS = ("track_id", "stage", "key", "status", "reason", "message", "uri")
NUMBERS = ("batch", "duration", "seconds")  # duration: s of audio; seconds: s of work
COLUMNS = pa.schema(
    [(name, pa.string()) for name in TEXTS]
    + [("batch", pa.int32())]
    + [(name, pa.float64()) for name in NUMBERS if name != "batch"]
)


def dropped(context: Context, statuses: Sequence[Status], stage: str = "", reason: str = "") -> Any:
    """A `pyarrow.Table` of `COLUMNS`: songs whose row in force ended so, at that stage and for that reason if given.

    `ValueError` for a stage that the build does not have.
    """
    if stage and stage not in context.keys:
        raise ValueError(f"no stage {stage!r}; there are {', '.join(context.keys)}")
    view, found = Survey(context, more=("message",)).look(), [COLUMNS.empty_table()]
    wanted = [code for code, status in enumerate(STATUS) if status in statuses]
    for name in [stage] if stage else view.told:
        told = view.told[name]
        songs = np.flatnonzero(view.counts[name] & np.isin(told.status, wanted))
        rows = told.table.take(pa.array(told.row[songs]))
        found.append(_columns(context, name, rows, view.songs.take(pa.array(songs))))
    table = pa.concat_tables(found)
    return table.filter(pc.equal(table["reason"], reason)) if reason else table


def _columns(context: Context, stage: str, rows: Any, songs: Any) -> Any:
    places = scan_catalog(context.root, ("uris",))
    at = pc.index_in(songs["track_id"], value_set=places["track_id"].combine_chunks())
    told = {name: rows[name] for name in ("track_id", "status", "reason", "message", "batch", "seconds")}
    same = {"stage": stage, "key": context.keys[stage]}
    told |= {name: pa.repeat(pa.scalar(text), rows.num_rows) for name, text in same.items()}
    told |= {"uri": pc.list_element(places["uris"].take(at), 0), "duration": songs["duration"]}
    return pa.table({name: told[name] for name in COLUMNS.names}, schema=COLUMNS)


def counted(table: Any) -> list[tuple[str, str, str, int]]:
    """(stage, status, reason, songs), in the order of the build, the most frequent reason first."""
    names = ("stage", "status", "reason")
    found = Counter(zip(*(table[name].to_pylist() for name in names), strict=True))
    order = {stage: number for number, stage in enumerate(dict.fromkeys(table["stage"].to_pylist()))}
    lines = [(stage, status, reason, songs) for (stage, status, reason), songs in found.items()]
    return sorted(lines, key=lambda line: (order[line[0]], line[1], -line[3], line[2]))


def save(table: Any, path: Place) -> None:
    """Write it as Parquet or CSV, as the name says; `BadInput` for another name."""
    suffix = path.name.rpartition(".")[2].lower()
    if suffix not in ("parquet", "csv"):
        raise BadInput(f"{path}: the table is written as .parquet or .csv; give a name that ends so", "bad_name")
    files.replace(path, parquet.encode(table) if suffix == "parquet" else _csv(table))


def _csv(table: Any) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(table.column_names)
    writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    return text.getvalue().encode()
