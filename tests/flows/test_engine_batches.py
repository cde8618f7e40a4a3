"""Several songs at once in one worker: the same rows as alone, and what goes wrong stays with the song that did it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from obedient import items, run
from workers import SaidTogether

from flows.engine.attempt import Item, attempts
from flows.engine.local import LocalEngine
from flows.engine.supervisor import Limits, Loss
from flows.engine.work import Work
from flows.recipe import Recipe, load_recipe
from flows.stages.context import Context
from flows.stages.graph import NODES
from pipeline.errors import BackendUnavailable
from pipeline.records.ledger import Row
from pipeline.records.values import load

WORKER = "workers:BatchedWorker"


def recipe(songs: int) -> Recipe:
    """One that gives annotation so many songs of a second at once."""
    return load_recipe("demo", [f"build.resources={{annotation: {{songs_seconds: {songs}}}}}"])


@pytest.fixture(autouse=True)
def stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NODES, "annotation", replace(NODES["annotation"], worker=WORKER))


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(workers=2, limits=Limits(seconds=1.0), attempts=2) as made:
        yield made


def told(row: Row) -> tuple[str, str, str]:
    """Status, reason, and the text that the worker read."""
    return row.status, row.reason, load(SaidTogether, row.values).text if row.values else ""


def test_rows_are_those_of_songs_that_were_worked_on_alone(engine: LocalEngine, tmp_path: Path) -> None:
    texts = ["fine", "dull", "bad", "break", "unreadable", *["fine"] * 9, "bad", "fine"]
    alone = run(engine, Context(tmp_path, recipe(1)), *texts, worker=WORKER)
    assert [row.status for row in alone[:5]] == ["ok", "rejected", "quarantined", "failed", "quarantined"]
    for songs, most in ((2, 2), (8, 4), (100, 4)):  # the first batch holds "break", and is worked on in halves
        rows = run(engine, Context(tmp_path, recipe(songs)), *texts, worker=WORKER)
        assert [told(row) for row in rows] == [told(row) for row in alone]
        assert max(load(SaidTogether, row.values).songs for row in rows if row.values) >= most


def test_song_that_kills_its_worker_is_found_among_its_mates(engine: LocalEngine, tmp_path: Path) -> None:
    texts = [*["fine"] * 5, "die", *["fine"] * 10]
    rows = run(engine, Context(tmp_path, recipe(8)), *texts, worker=WORKER)
    assert [row.reason for row in rows] == ["", "", "", "", "", "worker_died", *[""] * 10]
    assert [line[:10] for line in rows[5].message.splitlines()] == ["attempt 1:", "attempt 2:"]


def test_song_that_hangs_is_found_among_its_mates(engine: LocalEngine, tmp_path: Path) -> None:
    rows = run(engine, Context(tmp_path, recipe(2)), "fine", "hang", "fine", "fine", worker=WORKER)
    assert [row.reason for row in rows] == ["", "timeout", "", ""]
    assert "1 s (build.song_seconds)" in rows[1].message


def test_song_that_needs_too_much_memory_is_found_among_its_mates(tmp_path: Path) -> None:
    with LocalEngine(workers=1, limits=Limits(memory_bytes=10**9 // 2), attempts=1) as engine:
        rows = run(engine, Context(tmp_path, recipe(4)), "fine", f"swell {10**9}", "fine", "fine", worker=WORKER)
    assert [row.reason for row in rows] == ["", "out_of_memory", "", ""]


def test_missing_model_stops_the_run_whoever_is_with_it(engine: LocalEngine, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="no such model"):
        run(engine, Context(tmp_path, recipe(4)), *["fine"] * 3, "missing", *["fine"] * 8, worker=WORKER)


def test_batch_that_had_to_shrink_is_told_of_every_song_in_it(tmp_path: Path) -> None:
    rows = attempts(WORKER, Context(tmp_path, recipe(8)), tuple(items("large", *["fine"] * 5)))
    assert {row.message for row in rows} == {"toy: batch 6 -> 3, out of GPU memory"}
    assert {row.status for row in rows} == {"ok"}


def test_songs_that_the_memory_does_not_hold_together_go_in_halves_and_the_record_says_so(tmp_path: Path) -> None:
    """Where no batch of pieces shrinks: the memory ran out between them."""
    rows = attempts(WORKER, Context(tmp_path, recipe(8)), tuple(items("crowded", *["fine"] * 5)))
    assert {row.status for row in rows} == {"ok"}
    assert [load(SaidTogether, row.values).songs for row in rows] == [1, 2, 2, 3, 3, 3]
    assert {row.message for row in rows} == {
        "songs at once: 6 -> 3, out of GPU memory\nsongs at once: 3 -> 1, out of GPU memory"
    }


def test_seconds_of_the_work_are_shared_and_loading_is_told_once(tmp_path: Path) -> None:
    rows = attempts(WORKER, Context(tmp_path, recipe(4)), tuple(items("slow", "fine", "unreadable", "fine")), 7.0)
    shared = [row.phases["work"] for row in rows]
    assert min(shared) >= 0.1 / 4  # "slow" sleeps 0.1 s
    assert [row.phases["load"] >= 7.0 for row in rows] == [True, False, False, False]
    for row in rows:
        assert row.seconds == pytest.approx(sum(row.phases.values()) - row.phases["load"])


def lasting(*seconds: float) -> list[Item]:
    songs = items(*map(str, seconds))
    return [replace(item, track=replace(item.track, duration=float(item.track.text))) for item in songs]


def test_songs_of_like_length_share_a_batch_that_the_longest_of_them_measures() -> None:
    work = Work.of(lasting(10, 300, 20, 250, 30, 40, 600), attempts=1, songs_seconds=600)
    batches = []
    while batch := work.next():
        batches.append([item.track.duration for item in batch])
    assert batches == [[600], [300, 250], [40, 30, 20, 10]]
    shared = Work.of(lasting(*[10.0] * 12), attempts=1, songs_seconds=600)
    assert [len(shared.next(workers=3)) for _ in range(4)] == [4, 3, 2, 1]  # three share what is left
    assert [item.track.duration for item in Work.of(lasting(10, 20), attempts=1).next()] == [10]


def test_songs_that_lost_their_worker_come_again_in_halves() -> None:
    work, lost = Work.of(items(*"abcde"), attempts=1, songs_seconds=9), Loss("worker_died", "was killed")
    assert work.lost(work.next(), lost) is None
    assert work.songs == 5
    halves = [work.next(), work.next()]
    assert [[item.track.text for item in half] for half in halves] == [["a", "b"], ["c", "d", "e"]]
    row = work.lost(halves[0][:1], lost)
    assert row is not None
    assert row.reason == "worker_died"
    work.back(halves[1])
    work.give_up()
    assert (work.songs, work.next()) == (0, ())
