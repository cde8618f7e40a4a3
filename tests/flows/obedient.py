"""Songs whose text says what becomes of their worker (`workers.ObedientWorker`), and a run over them."""

from flows.engine.attempt import Item
from flows.engine.engine import Engine
from flows.stages.context import Context
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row

WORKER = "workers:ObedientWorker"


def track(number: int, text: str, error: str = "") -> CatalogRow:
    return CatalogRow(
        track_id=f"{number:032x}", uris=(f"{number}.wav",), sha256="", bytes=0, duration=1.0, sample_rate=48_000,
        channels=2, split="", artist="", text=text, licence="", vocal_uri="", accompaniment_uri="", error=error,
        message="told at cataloguing" if error else "",
    )  # fmt: skip


def items(*texts: str) -> list[Item]:
    return [Item(track(number, text), {}) for number, text in enumerate(texts)]


def run(engine: Engine, context: Context, *texts: str, worker: str = WORKER) -> list[Row]:
    """The rows of songs with these texts; each was told once."""
    seen: list[str] = []
    songs = items(*texts)
    rows = engine.run(worker, context, songs, lambda row: seen.append(row.track_id))
    assert sorted(seen) == [row.track_id for row in rows] == [item.track.track_id for item in songs]
    return rows
