"""The Ray engine, on a real Ray of one machine: the same rows and the same bytes as the local engine."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from obedient import items, run
from test_engine_bytes import SONGS, built
from tiny_build import write_library
from workers import Said, SaidTogether

from flows.engine.engine import open_engine
from flows.engine.local import LocalEngine
from flows.engine.ray import RayEngine
from flows.engine.station import Missing, Station
from flows.engine.supervisor import Limits
from flows.engine.work import WorkerStartError
from flows.recipe import BuildConfig, Resources, load_recipe
from flows.stages.context import Context
from flows.stages.graph import NODES
from pipeline.errors import BackendUnavailable
from pipeline.records.values import load

CONFIG = BuildConfig(workers=2, song_seconds=5.0, song_attempts=1)


@pytest.fixture(scope="module")
def engine() -> Iterator[RayEngine]:
    with RayEngine(CONFIG) as made:
        yield made


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, load_recipe("demo"))


def test_each_end_has_its_own_status(engine: RayEngine, context: Context) -> None:
    rows = run(engine, context, "fine", "dull", "bad", "break", "die", "hang", "fine")
    assert [(row.status, row.reason) for row in rows] == [
        ("ok", ""),
        ("rejected", "dull"),
        ("quarantined", "useless"),
        ("failed", "RuntimeError"),
        ("failed", "worker_died"),
        ("failed", "timeout"),
        ("ok", ""),
    ]


def test_several_songs_go_to_a_worker_at_once_where_their_stage_takes_them(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = "workers:BatchedWorker"
    monkeypatch.setitem(NODES, "annotation", replace(NODES["annotation"], worker=worker))
    context = Context(tmp_path, load_recipe("demo", ["build.resources={annotation: {songs_seconds: 4}}"]))
    rows = run(engine, context, *["fine"] * 6, "die", "bad", *["fine"] * 8, worker=worker)
    assert [row.reason for row in rows] == [*[""] * 6, "worker_died", "useless", *[""] * 8]
    assert 1 < max(load(SaidTogether, row.values).songs for row in rows if row.values) <= 4


def test_workers_stay_loaded_and_threads_share_them(engine: RayEngine, context: Context) -> None:
    seen: list[int] = []

    def work() -> None:
        seen.extend(load(Said, row.values).process for row in run(engine, context, *["fine"] * 10))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 30
    assert len(set(seen)) <= 2


def test_song_of_an_actor_that_is_killed_is_worked_on_elsewhere(
    engine: RayEngine, context: Context, tmp_path: Path
) -> None:
    rows = run(engine, context, "fine", f"evict {tmp_path / 'mark'}", "fine")  # one attempt: the song is not to blame
    assert [row.status for row in rows] == ["ok"] * 3
    assert (tmp_path / "mark").exists()


def test_missing_model_stops_the_run_and_no_other(engine: RayEngine, context: Context) -> None:
    with pytest.raises(BackendUnavailable, match="no such model"):
        run(engine, context, "fine", "missing", *["slow"] * 40)
    with pytest.raises(BackendUnavailable, match="pip install something"):
        run(engine, context, "fine", worker="workers:AbsentWorker")
    assert run(engine, context, "fine")[0].status == "ok"


def test_worker_that_cannot_load_ends_the_run_with_its_story(engine: RayEngine, context: Context) -> None:
    with pytest.raises(WorkerStartError, match=r"3 times in a row[^$]*weights are torn"):
        run(engine, context, "fine", worker="workers:UnloadableWorker")


def test_caller_that_gives_up_leaves_the_engine_whole(engine: RayEngine, context: Context) -> None:
    def refuse(row: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run("workers:ObedientWorker", context, items(*["slow"] * 20), refuse)
    assert run(engine, context, "fine")[0].status == "ok"


def test_a_worker_that_no_machine_can_hold_is_refused(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.engine.fleet.ROOM_SECONDS", 0.0)
    recipe = load_recipe("demo", ["rehearsal={}"])
    build = recipe.build.model_copy(update={"resources": {"detection": Resources(gpus=64.0)}})
    context = Context(tmp_path, recipe.model_copy(update={"build": build}))
    with pytest.raises(BackendUnavailable, match=r"64 GPUs.*none of the 1 machines.*build\.resources"):
        run(engine, context, "fine", worker="flows.bench.noop:DetectionWorker")


def test_ray_builds_the_same_bytes_as_one_worker(engine: RayEngine, tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    write_library(library, SONGS)
    with LocalEngine(workers=1) as alone:
        expected = built(alone, library, tmp_path / "local")
    assert built(engine, library, tmp_path / "ray") == expected


def test_station_says_what_its_machine_does_not_see(tmp_path: Path) -> None:
    answer = Station(Limits()).load(b"", [str(tmp_path), "/not/on/this/machine"])
    assert isinstance(answer, Missing)
    assert answer.paths == ("/not/on/this/machine",)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'backline\[ray\]'"):
        open_engine("ray", BuildConfig())
