"""A few columns of many rows: what statistics and progress are made of, without a Python object for every row.

Conventions: a table holds every row of every generation of one stage, those of a track in the order of their commits,
and a column ``batch``; the last row of a track is the one that counts, as everywhere in the ledger.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.records import parquet
from pipeline.records.ledger import SCHEMA, Ledger, Part


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
        table = parquet.read(part.path, self.columns)
        return table.append_column("batch", pa.repeat(pa.scalar(part.batch, pa.int32()), table.num_rows))
