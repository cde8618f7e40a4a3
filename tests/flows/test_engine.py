"""The local engine: every song gets a row, whatever its worker does; failures are not rejections."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from obedient import WORKER, items, run, track
from workers import Said

from flows.engine.attempt import Item
from flows.engine.batch import LEAST, PARTS, run_batch
from flows.engine.engine import OnRow
from flows.engine.local import LocalEngine
from flows.recipe import load_recipe
from flows.stages.context import Context
from flows.stages.graph import stage_keys
from pipeline.audio import Probe
from pipeline.errors import BackendUnavailable
from pipeline.records.catalog import Catalog
from pipeline.records.ledger import Ledger, Row
from pipeline.records.library import Source
from pipeline.records.values import load


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(workers=2) as made:
        yield made


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, load_recipe("demo"))


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


def test_missing_model_cancels_the_waiting_songs_and_gives_the_finished_ones(
    engine: LocalEngine, context: Context
) -> None:
    seen: list[Row] = []
    texts = ["slow", "missing", *["slow"] * 40]
    with pytest.raises(BackendUnavailable):
        engine.run(WORKER, context, items(*texts), seen.append)
    assert {row.status for row in seen} == {"ok"}
    assert 1 <= len(seen) <= 6  # those that ran or were under way
    assert run(engine, context, "fine")[0].status == "ok"


class Told(LocalEngine):
    """Gives rows without processes, until it is stopped."""

    def __init__(self, stop_after: int) -> None:
        super().__init__(workers=1)
        self.stop_after = stop_after

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        rows = [Row(item.track.track_id, "ok") for item in items]
        for number, row in enumerate(rows):
            if number == self.stop_after:
                raise KeyboardInterrupt
            on_row(row)
        return rows


class Silent:
    """A watcher that shows nothing."""

    def start(self, total: int) -> None:
        self.total = total

    def add(self, row: Row) -> None:
        self.last = row


def catalogued(root: Path, count: int) -> Context:
    songs = root / "songs"
    songs.mkdir()
    for number in range(count):
        (songs / f"{number}.wav").write_text(str(number))
    Catalog(root, lambda uri: Probe(9.0, 48_000, 2)).add([Source(str(path)) for path in sorted(songs.iterdir())])
    recipe = load_recipe("demo", ["build.part_seconds=0"])
    return Context(root, recipe, stage_keys(recipe))


def test_a_killed_batch_keeps_what_came_in_and_the_next_run_does_the_rest(tmp_path: Path) -> None:
    context = catalogued(tmp_path, 100)
    ledger, key = Ledger(tmp_path), context.keys["detection"]
    with pytest.raises(KeyboardInterrupt):
        run_batch("detection", context, 0, Told(stop_after=53), False, Silent())
    assert len(ledger.rows("detection", key, 0)) == 53
    summary = run_batch("detection", context, 0, Told(stop_after=1000), False, Silent())
    assert (summary.wanted, summary.worked, summary.ok) == (100, 47, 100)
    parts = list(ledger.directory("detection", key).glob("part-*"))
    assert 2 < len(parts) <= 2 * PARTS
    assert run_batch("detection", context, 0, Told(stop_after=0), False, Silent()).worked == 0
    assert list(ledger.directory("detection", key).glob("part-*")) == parts


def test_rows_that_stand_waiting_are_committed_before_the_batch_ends(tmp_path: Path) -> None:
    context = catalogued(tmp_path, 40)
    ledger, key = Ledger(tmp_path), context.keys["detection"]
    counts: list[int] = []

    class Looking(Silent):
        def add(self, row: Row) -> None:
            counts.append(len(ledger.rows("detection", key, 0)))

    run_batch("detection", context, 0, Told(stop_after=1000), False, Looking())
    assert counts == [number // LEAST * LEAST for number in range(40)]


def test_songs_whose_batches_had_to_shrink_are_counted_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Tight(Told):
        def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
            told = ("MuQ: batch 8 -> 4, out of GPU memory", "", "MuQ: batch 8 -> 4, out of GPU memory")
            rows = [Row(item.track.track_id, "ok", message=said) for item, said in zip(items, told, strict=True)]
            for row in rows:
                on_row(row)
            return rows

    run_batch("detection", catalogued(tmp_path, 3), 0, Tight(stop_after=0), False, Silent())
    (said,) = [record.getMessage() for record in caplog.records if record.name == "flows.engine.batch"]
    assert "did not hold the batches of 2 songs" in said
    assert "build.resources.detection" in said


def test_a_batch_of_a_moment_is_one_part(tmp_path: Path) -> None:
    context = catalogued(tmp_path, 40)
    slow = replace(context, recipe=load_recipe("demo"))
    run_batch("detection", slow, 0, Told(stop_after=1000), False, Silent())
    assert len(list(Ledger(tmp_path).directory("detection", slow.keys["detection"]).glob("part-*"))) == 1


def test_song_that_could_not_be_catalogued_is_quarantined_unread(engine: LocalEngine, context: Context) -> None:
    rows = engine.run(WORKER, context, [Item(track(0, "die", error="empty"), {})], lambda row: None)
    assert [(row.status, row.reason, row.message) for row in rows] == [("quarantined", "empty", "told at cataloguing")]
