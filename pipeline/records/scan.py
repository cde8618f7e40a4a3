"""A few columns of many rows: what statistics and progress are made of, without a Python object for every row.

Conventions: a table holds every row of every generation of one stage, those of a track in the order of their commits,
and a column ``batch``; the last row of a track is the one that counts, as everywhere in the ledger.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.records import files, parquet
from pipeline.records.catalog import PART_SCHEMA as CATALOG_SCHEMA
from pipeline.records.files import Place
from pipeline.records.ledger import SCHEMA, Ledger, Part
from pipeline.records.tombstones import FORGOTTEN

_CATALOG_PART = re.compile(r"part-\d{5,}\.parquet")


class Scan:
    """Chosen columns of one stage's rows; a second look reads only the parts that came since the first."""

    def __init__(self, ledger: Ledger, stage: str, key: str, columns: Sequence[str]) -> None:
        self.ledger, self.stage, self.key = ledger, stage, key
        self.columns = list(columns)
        self._table: Any = None
        self._begin()

    def table(self) -> Any:
        """The `pyarrow.Table` of what is committed now; columns that older parts lack are null there."""
        parts = self.ledger.parts(self.stage, self.key)
        if not self._read.keys() <= set(parts) or any(self._late(part) for part in parts):
            self._begin()  # a part was written anew (`forget`) or came out of turn
        new = [part for part in parts if part not in self._read]
        self._read |= dict.fromkeys(new)
        self._newest |= {part.batch: part.generation for part in new}
        if new:
            self._table = pa.concat_tables([self._table, *map(self._columns_of, new)], promote_options="default")
            self._table = self._table.combine_chunks()
        return self._table

    def _begin(self) -> None:
        fields = [SCHEMA.field(name) for name in self.columns]
        self._read: dict[Part, None] = {}
        self._newest: dict[int, int] = {}  # batch -> the generation read last
        self._table = pa.schema([*fields, ("batch", pa.int32())]).empty_table()

    def _late(self, part: Part) -> bool:
        return part not in self._read and part.generation < self._newest.get(part.batch, 0)

    def _columns_of(self, part: Part) -> Any:
        return _numbered(parquet.read(part.path, self.columns), part.batch)


def scan_catalog(root: Place, columns: Sequence[str]) -> Any:
    """Chosen columns of every track, as it was first catalogued, in the order of the batches; forgotten ones left out.

    ``track_id`` and ``error`` are always there, and ``batch``.
    """
    directory, names = root / "catalog", tuple(dict.fromkeys(("track_id", "error", *columns)))
    found = ((entry.name, entry.version) for entry in files.entries(directory, "part-"))
    return _catalogued(directory, names, tuple(part for part in found if _CATALOG_PART.fullmatch(part[0])))


@lru_cache(maxsize=2)
def _catalogued(directory: Place, names: tuple[str, ...], parts: tuple[tuple[str, str], ...]) -> Any:
    fields = [*(CATALOG_SCHEMA.field(name) for name in names), ("batch", pa.int32())]
    read = [
        _numbered(parquet.read(directory / part, names), int(part[len("part-") : -len(".parquet")]))
        for part, _ in parts
    ]
    table = pa.concat_tables([pa.schema(fields).empty_table(), *read], promote_options="default").combine_chunks()
    return table.filter(pc.not_equal(table["error"], FORGOTTEN))


def _numbered(table: Any, batch: int) -> Any:
    return table.append_column("batch", pa.repeat(pa.scalar(batch, pa.int32()), table.num_rows))
