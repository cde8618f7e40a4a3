"""The local engine: every song gets a row, whatever its worker does; failures are not rejections."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from workers import Said

from flows.engine.attempt import Item
from flows.engine.local import LocalEngine
from flows.recipe import load_recipe
from flows.stages.context import Context
from pipeline.errors import BackendUnavailable
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row
from pipeline.records.values import load

WORKER = "workers:ObedientWorker"


def track(number: int, text: str, error: str = "") -> CatalogRow:
    return CatalogRow(
        track_id=f"{number:032x}", uris=(f"{number}.wav",), sha256="", bytes=0, duration=1.0, sample_rate=48_000,
        channels=2, split="", artist="", text=text, licence="", vocal_uri="", accompaniment_uri="", error=error,
        message="told at cataloguing" if error else "",
    )  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(workers=2) as made:
        yield made


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, load_recipe("demo"))


def run(engine: LocalEngine, context: Context, *texts: str) -> list[Row]:
    seen: list[str] = []
    items = [Item(track(number, text), {}) for number, text in enumerate(texts)]
    rows = engine.run(WORKER, context, items, lambda row: seen.append(row.track_id))
    assert sorted(seen) == [row.track_id for row in rows] == [item.track.track_id for item in items]
    return rows


def test_each_end_has_its_own_status(engine: LocalEngine, context: Context) -> None:
    rows = run(engine, context, "fine", "dull", "bad", "break")
    assert [(row.status, row.reason) for row in rows] == [
        ("ok", ""),
        ("rejected", "dull"),
        ("quarantined", "useless"),
        ("failed", "RuntimeError"),
    ]
    assert "something broke" in rows[3].message
    assert rows[0].backend == "obedient"


def test_worker_stays_loaded_between_songs(engine: LocalEngine, context: Context) -> None:
    rows = run(engine, context, *["fine"] * 12)
    assert len({load(Said, row.values).process for row in rows}) <= 2


def test_song_that_kills_its_worker_fails_alone(engine: LocalEngine, context: Context) -> None:
    rows = run(engine, context, "fine", "die", "fine", "fine", "die", "fine")
    assert [row.status for row in rows] == ["ok", "failed", "ok", "ok", "failed", "ok"]
    assert {row.reason for row in rows if row.status == "failed"} == {"worker_died"}


def test_missing_model_stops_the_run(engine: LocalEngine, context: Context) -> None:
    with pytest.raises(BackendUnavailable, match="no such model"):
        run(engine, context, "fine", "missing", "fine")


def test_song_that_could_not_be_catalogued_is_quarantined_unread(engine: LocalEngine, context: Context) -> None:
    rows = engine.run(WORKER, context, [Item(track(0, "die", error="empty"), {})], lambda row: None)
    assert [(row.status, row.reason, row.message) for row in rows] == [("quarantined", "empty", "told at cataloguing")]
