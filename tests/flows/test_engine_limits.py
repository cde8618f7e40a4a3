"""What a worker's end means for its song, and for no other: crashes, hangs, memory, models that can't be loaded."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from obedient import WORKER, items, run
from workers import Said

from flows.engine.engine import concurrent_batches, open_engine
from flows.engine.local import LocalEngine
from flows.engine.supervisor import Limits, Loss, Supervised, resident_bytes
from flows.engine.work import MACHINES, Work, WorkerStartError
from flows.recipe import BuildConfig, load_recipe
from flows.stages.context import Context
from pipeline.errors import BackendUnavailable
from pipeline.records.values import load

GB = 10**9


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(workers=2, limits=Limits(seconds=3.0), attempts=1) as made:
        yield made


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, load_recipe("demo"))


def test_every_death_is_one_songs_and_its_row_says_how(engine: LocalEngine, context: Context) -> None:
    texts = ["die", "crash", "leave", "hang", "freeze", "fine", "fine"]
    rows = dict(zip(texts, run(engine, context, *texts), strict=True))
    assert {text: (row.status, row.reason) for text, row in rows.items()} == {
        "die": ("failed", "worker_died"),
        "crash": ("failed", "worker_died"),
        "leave": ("failed", "worker_died"),
        "hang": ("failed", "timeout"),
        "freeze": ("failed", "timeout"),
        "fine": ("ok", ""),
    }
    assert "SIGKILL" in rows["die"].message
    assert "SIGSEGV" in rows["crash"].message
    assert "exit code 3" in rows["leave"].message
    assert rows["hang"].seconds >= 3.0
    for text in ("crash", "hang", "freeze"):
        assert "workers.py" in rows[text].message  # where it was
        assert "hold_lifeline" not in rows[text].message
    assert "3 s (build.song_seconds)" in rows["freeze"].message


def test_a_song_that_takes_too_much_memory_fails_alone(context: Context) -> None:
    with LocalEngine(workers=1, limits=Limits(memory_bytes=GB // 2), attempts=1) as engine:
        rows = run(engine, context, "fine", f"swell {GB}", "fine")
    assert [(row.status, row.reason) for row in rows] == [("ok", ""), ("failed", "out_of_memory"), ("ok", "")]
    assert "more than 0.5 GB (build.worker_memory_gb)" in rows[1].message


def test_a_song_is_tried_again_as_often_as_the_recipe_says(context: Context, tmp_path: Path) -> None:
    with LocalEngine(workers=1, attempts=2) as engine:
        rows = run(engine, context, f"once {tmp_path / 'mark'}", "die", "fine")
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert [line[:10] for line in rows[1].message.splitlines()] == ["attempt 1:", "attempt 2:"]


def test_worker_that_dies_between_songs_costs_none(engine: LocalEngine, context: Context) -> None:
    process = load(Said, run(engine, context, "fine")[0].values).process
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert [row.message for row in run(engine, context, "fine", "fine")] == ["", ""]


def test_worker_that_cannot_load_ends_the_run_with_its_story(context: Context) -> None:
    with (
        LocalEngine(workers=1) as engine,
        pytest.raises(WorkerStartError, match=r"3 times in a row[^$]*weights are torn"),
    ):
        run(engine, context, "fine", worker="workers:UnloadableWorker")


def test_missing_model_is_told_before_any_song(engine: LocalEngine, context: Context) -> None:
    with pytest.raises(BackendUnavailable, match="pip install something"):
        run(engine, context, "fine", "fine", worker="workers:AbsentWorker")


def test_engine_is_whole_after_a_caller_that_gave_up(engine: LocalEngine, context: Context) -> None:
    def refuse(row: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(WORKER, context, items("fine", "slow", "slow", "slow"), refuse)
    assert {row.status for row in run(engine, context, "fine", "fine", "fine")} == {"ok"}


def test_threads_share_an_engine(engine: LocalEngine, context: Context) -> None:
    ended: list[list[str]] = []

    def work() -> None:
        ended.append([row.status for row in run(engine, context, *["fine"] * 5)])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ended == [["ok"] * 5] * 3


def test_a_worker_ends_with_whoever_watches_it() -> None:
    program = (
        "import os; from flows.engine.supervisor import Limits, Supervised; child = Supervised(Limits()); "
        "print(child.process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    told = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
    process = int(told.stdout)
    while resident_bytes(process):
        time.sleep(0.01)


def test_a_watcher_needs_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; import flows.engine.station; "
        "print({name.partition('.')[0] for name in sys.modules if name[:2] != '__'} - set(sys.stdlib_module_names))"
    )
    told = subprocess.run([sys.executable, "-S", "-c", program], stdout=subprocess.PIPE, check=True, text=True)
    assert told.stdout.strip() == "{'flows'}"


def test_a_child_that_is_gone_takes_no_work() -> None:
    child = Supervised(Limits())
    child.process.kill()
    child.process.wait()
    assert not child.send(b"x" * 10**6)
    assert child.ready()
    loss = child.receive()
    child.close()
    assert isinstance(loss, Loss)
    assert (loss.reason, child.alive) == ("worker_died", False)


def test_lost_machines_are_not_held_against_a_song_until_it_has_lost_many() -> None:
    work = Work.of(items("fine"), attempts=1)
    lost = Loss("node_lost", "lost its machine", 1.0)
    for _ in range(MACHINES - 1):
        assert work.lost(work.next(), lost) is None
    row = work.lost(work.next(), lost)
    assert row is not None
    assert (row.status, row.reason, row.seconds) == ("failed", "node_lost", float(MACHINES))
    assert work.next() == ()


def test_local_engine_follows_the_recipe() -> None:
    config = BuildConfig(workers=3, song_seconds=7.0, song_attempts=4, worker_memory_gb=1.5)
    with open_engine("local", config) as engine:
        assert isinstance(engine, LocalEngine)
        assert (engine.workers, engine.attempts) == (3, 4)
        assert engine.limits == Limits(seconds=7.0, memory_bytes=1_500_000_000, threads=1)
    assert concurrent_batches("local") == 1
