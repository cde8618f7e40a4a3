"""Parquet tables <-> bytes, in the calling thread alone.

Conventions: nothing here starts one of Arrow's own threads. With them alive, about one process in fifteen that read a
ledger of 20 parts aborted at exit ("terminate called without an active exception"; pyarrow 26.0.1 on two busy cores);
without them none of 70 did.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records.files import Place


def encode(table: Any) -> bytes:
    """A `pyarrow.Table` as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_statistics=False)  # they repeat the longest texts, and nobody reads them
    return bytes(sink.getvalue().to_pybytes())


def decode(data: bytes, columns: Sequence[str] | None = None) -> Any:
    """The `pyarrow.Table` in the bytes of a Parquet file; `pyarrow.ArrowInvalid` (a `ValueError`) if there is none.

    Of `columns` those that the file has; None = all.
    """
    names = None if columns is None else list(columns)
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(columns=names, use_threads=False)


def read(path: Place, columns: Sequence[str] | None = None) -> Any:
    return decode(path.read_bytes(), columns)
