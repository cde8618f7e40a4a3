"""How a run goes through its batches, what `limit` takes of a library, and what a Retry takes from the cache."""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock, get_ident
from typing import Any, cast

import pytest
from rehearsals import rehearsal, track

from flows.bench.tiny import write_library
from flows.build_dataset import BuildParameters
from flows.engine.attempt import Item, attempt
from flows.engine.engine import Engine, OnRow
from flows.stages.context import Context
from flows.tasks import Batches, Scope, catalogue, unless_work_is_left
from flows.work import groups, open_build, run_stages
from pipeline.records.ledger import Row

STAGES = ["detection", "quality", "structure"]
ALL_PASS = "rehearsal={results: {rejected: 0.0}}"


class Inline:
    """An engine that works in the caller's thread and writes down who did what."""

    def __init__(self) -> None:
        self.done: list[tuple[int, str, str]] = []  # thread, stage, first song
        self.lock = Lock()

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        rows = [attempt(worker, context, item) for item in items]
        for row in rows:
            on_row(row)
        with self.lock:
            self.done.append((get_ident(), worker.partition(":")[2], items[0].track.track_id))
        return rows

    def close(self) -> None: ...


def catalogued(library: Path, root: Path, *settings: str, **others: Any) -> tuple[BuildParameters, Context, Batches]:
    build = rehearsal(library, root, "library.batch_size=2", *(settings or (ALL_PASS,)), stages=STAGES, **others)
    context = open_build(build)
    return build, context, catalogue.fn(context, build.library, False, build.limit)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Six songs."""
    return write_library(tmp_path / "library", 6)


def test_batches_go_side_by_side_where_the_engine_wants_them(prefect: None, library: Path, tmp_path: Path) -> None:
    build, context, batches = catalogued(library, tmp_path / "root", engine="ray")
    engine = Inline()
    worked = run_stages(context, build, batches.all, cast(Engine, engine), Scope())
    assert (worked.songs, worked.failures) == (6 * 3, [])
    assert len({thread for thread, _, _ in engine.done}) > 1
    for song in {song for _, _, song in engine.done}:
        mine = [stage for _, stage, first in engine.done if first == song]
        assert mine == ["DetectionWorker", "QualityWorker", "StructureWorker"]


def test_batch_that_fails_stops_its_own_later_stages_alone(prefect: None, library: Path, tmp_path: Path) -> None:
    faults = f"{{unavailable: ['quality:{track(library, 2)}']}}"
    fault = f"rehearsal={{results: {{rejected: 0.0}}, faults: {faults}}}"
    build, context, batches = catalogued(library, tmp_path / "root", fault)
    engine = Inline()
    worked = run_stages(context, build, batches.all, cast(Engine, engine), Scope())
    (failure,) = worked.failures
    assert failure.startswith("quality batch 1: Failed: BackendUnavailable: ")
    assert [stage for _, stage, _ in engine.done].count("StructureWorker") == 2
    assert worked.songs == 6 + 4 + 4


def test_limit_takes_the_first_songs_and_runs_the_batches_that_hold_them(library: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    assert catalogued(library, root, limit=3)[2] == Batches([0, 1], [0, 1])
    assert catalogued(library, root)[2] == Batches([0, 1, 2, 3], [0, 1, 2, 3])  # three more songs, in batches of two
    assert catalogued(library, root, limit=1)[2] == Batches([0, 1, 2, 3], [0])


def test_groups_keep_the_order_and_lose_none() -> None:
    assert groups([3, 1, 4, 1, 5], 2) == [[3, 1], [4, 1], [5]]
    assert groups([], 8) == []


def test_retry_takes_from_the_cache_what_has_nothing_left_to_do(prefect: None, library: Path, tmp_path: Path) -> None:
    build, context, batches = catalogued(library, tmp_path / "root")

    def key(scope: Scope) -> str | None:
        return unless_work_is_left(
            cast(Any, None), {"stage": "detection", "batch": 0, "context": context, "scope": scope}
        )

    first = key(Scope("run", again=False))
    assert first is not None
    assert key(Scope("other", again=False)) not in (None, first)
    assert key(Scope()) is None  # no flow run, nothing to retry
    assert key(Scope("run", again=True)) is None  # no song of it is done
    run_stages(context, build, batches.all[:1], cast(Engine, Inline()), Scope())
    assert key(Scope("run", again=True)) == first
