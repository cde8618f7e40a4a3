"""The scale bench: what it counts is what was built; its bars are those of the issue."""

import json
import math
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flows.bench.planning import plan
from flows.bench.scale import ONCE, ScaleCase, attempts, measure, wait_for
from flows.bench.scale_show import draw, exponent, fit, in_words, missed, table_of, to_json
from flows.bench.server import Server
from flows.stages.graph import NODES
from pipeline.records.catalog import Catalog

STAGES = len(NODES) + 1
PER_SONG_STAGE = 4e-3  # s of CPU over what a build with nothing to do costs; four times the bar, for busy machines


def case(songs: int, cpu: float, again: float = 10.0) -> ScaleCase:
    batches = -(-songs // 256)
    return ScaleCase(
        songs=songs, stages=STAGES, batches=batches, worked=songs, seconds=1.0, client_cpu=0.8 * cpu,
        server_cpu=0.2 * cpu, server_idle=0.0, again_cpu=again, client_peak=1, server_peak=1, database_bytes=1,
        flow_runs=1, task_runs=STAGES * batches + ONCE, events=1, ledger_bytes=1, ledger_files=1, scan_rows=songs,
        scan_seconds=0.1,
    )  # fmt: skip


def check_counts(found: ScaleCase) -> None:
    """What holds for a build of any size."""
    assert found.task_runs <= found.stages * found.batches + ONCE
    assert found.ledger_files <= found.batches * len(NODES) * 2  # light stages make one part of a batch
    assert 0.6 * found.songs * len(NODES) < found.worked < found.songs * len(NODES)
    assert found.scan_rows == found.songs
    assert found.ledger_bytes < 4000 * found.songs
    assert found.database_bytes < 200_000 * found.task_runs


@pytest.mark.timeout(1500)  # a server's start and two builds, on machines that may be busy
def test_a_rehearsal_costs_little_and_its_rerun_nothing_per_song(tmp_path: Path) -> None:
    found = measure(tmp_path, 300)
    check_counts(found)
    assert found.cpu - found.again_cpu < PER_SONG_STAGE * found.songs * found.stages + 15.0  # a worker's start
    first, again = attempts(tmp_path / "songs-300")
    assert (first.kind, again.kind, again.artifacts <= first.artifacts) == ("first", "again", True)
    later = measure(tmp_path, 300)  # nothing is built a third time
    assert replace(later, scan_seconds=0.0) == replace(found, scan_seconds=0.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_songs_keep_the_bars(tmp_path: Path) -> None:
    found = measure(tmp_path, 10_000)
    check_counts(found)
    assert missed([found]) == []


def test_planning_needs_no_file_and_no_server(tmp_path: Path) -> None:
    told = plan(tmp_path, 1000)
    assert (told.songs, told.batches, told.partitions) == (1000, 4, 1)
    assert told.task_runs == STAGES * 4 + ONCE
    assert told.hours == pytest.approx(1000 * 240 / 3600)
    assert Catalog(tmp_path).batches() == [0, 1, 2, 3]


def test_the_exponent_is_the_power_of_the_songs() -> None:
    assert exponent([case(n, 10.0 + 0.01 * n) for n in (1000, 10_000, 140_000)]) == pytest.approx(1.0)
    assert exponent([case(n, 10.0 + 1e-6 * n**2) for n in (1000, 10_000)]) == pytest.approx(2.0)
    assert math.isnan(exponent([case(1000, 20.0)]))


def test_the_line_is_that_of_the_costs() -> None:
    line = fit([case(n, 12.0 + 0.008 * n) for n in (1000, 10_000, 140_000)])
    assert line is not None
    assert (line.fixed, line.per_song) == pytest.approx((12.0, 0.008))
    assert line.residuals == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)
    assert in_words(line).startswith("CPU = 12.0 s + 8.00 ms a song")
    bent = fit([case(n, 12.0 + 0.008 * n + 1e-7 * n**2) for n in (1000, 10_000, 140_000)])
    assert bent is not None
    assert max(map(abs, bent.residuals)) > 0.05
    assert fit([case(1000, 20.0)]) is None


def test_a_build_whose_server_has_died_is_ended(tmp_path: Path) -> None:
    server = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    build = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        told = Server(tmp_path, 0, server.pid)
        assert told.alive
        server.kill()
        wait_for(build, told)
        assert not told.alive
        assert build.returncode == -signal.SIGKILL
    finally:
        for process in (build, server):
            process.kill()
        server.communicate()
    assert not told.alive


def test_each_bar_that_is_missed_is_named() -> None:
    good = case(10_000, 100.0)
    assert missed([case(1000, 20.0), good]) == []
    assert "per song and stage" in missed([case(10_000, 200.0)])[0]
    assert missed([case(1000, 200.0)]) == []  # too small for that bar
    assert "task runs" in missed([replace(good, task_runs=good.task_runs + 1)])[0]
    assert "scan" in missed([replace(good, scan_rows=140_000, scan_seconds=2.1)])[0]
    assert "songs^" in missed([case(1000, 11.0), case(10_000, 111.0)])[0]


def test_figures_are_shown_and_drawn(tmp_path: Path) -> None:
    cases = [case(1000, 20.0), case(10_000, 100.0)]
    assert json.loads(to_json(cases[1]))["ms_per_song_stage"] == pytest.approx(1e5 / (10_000 * STAGES), rel=1e-3)
    assert [str(column.header) for column in table_of(cases).columns] == ["", "1,000 songs", "10,000 songs"]
    draw(cases, tmp_path / "scale.svg")
    assert (tmp_path / "scale.svg").read_bytes().startswith(b"<?xml")
