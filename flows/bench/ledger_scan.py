"""Reading every row of a stage: what statistics and `backline status` do first, on a ledger of as many songs as asked.

Conventions: rows are as long as those of a light stage, in parts of a batch, written by the real ledger; CPU seconds
are this process's own. The first look reads every file, the second finds that none is new.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.tally import BACKEND, COLUMNS
from pipeline.records import files
from pipeline.records.catalog import BATCH_SIZE
from pipeline.records.ledger import Ledger, Row
from pipeline.records.scan import Scan
from pipeline.records.store import Artefact

MOST_SECONDS, DEMANDED_ROWS = 2.0, 140_000  # CPU, of the first look
STAGE, KEY = "quality", "00000000"
VALUES = json.dumps({"mean": 4.0, "scores": dict.fromkeys(("band", "clip", "level", "noise", "wide"), 4.0)})


@dataclass(frozen=True, slots=True)
class Scanned:
    """One ledger, read."""

    what: str
    rows: int
    parts: int
    megabytes: float
    first_cpu: float  # s
    again_cpu: float  # s, of a look that finds nothing new
    demanded: float  # s, at most, of the first one

    @property
    def passed(self) -> bool:
        return self.rows < DEMANDED_ROWS or self.first_cpu <= self.demanded


def scan(root: Path, rows: int) -> Scanned:
    """Write a stage's rows under `root`, which must be new, and read them."""
    ledger, batches = Ledger(root), -(-rows // BATCH_SIZE)
    for batch in range(batches):
        ledger.commit(STAGE, KEY, batch, made(range(batch * BATCH_SIZE, min(rows, (batch + 1) * BATCH_SIZE))))
    parts = files.entries(ledger.directory(STAGE, KEY))
    reader = Scan(ledger, STAGE, KEY, (*COLUMNS, *BACKEND))
    begun = time.process_time()
    read = reader.table().num_rows
    first = time.process_time()
    assert reader.table().num_rows == read == rows
    again, size = time.process_time(), sum(part.bytes for part in parts)
    return Scanned("ledger scan", rows, len(parts), size / 1e6, first - begun, again - first, MOST_SECONDS)


def made(numbers: range) -> Iterator[Row]:
    for number in numbers:
        track_id = f"{number:032x}"
        kept = Artefact("words", f"arrays/00/{track_id}-words-00000000.safetensors", f"{number:064x}", 4000)
        yield Row(
            track_id, "ok", values=VALUES, artefacts=(kept,), seconds=0.5 + number % 7, backend="bench",
            licence="MIT", phases={"decode": 0.1, "load": 0.0, "work": 0.4 + number % 7}, peak_bytes=10**9 + number,
            begun=1.7e9 + number,
        )  # fmt: skip


def to_json(scanned: Scanned) -> str:
    return json.dumps(asdict(scanned) | {"passed": scanned.passed})


def in_words(scanned: Scanned) -> str:
    return (
        f"{scanned.what}: {scanned.rows:,} rows in {scanned.parts} parts ({scanned.megabytes:.0f} MB) in "
        f"{scanned.first_cpu:.2f} s of CPU (demanded: {scanned.demanded:g}); a further look {scanned.again_cpu:.3f} s"
    )
