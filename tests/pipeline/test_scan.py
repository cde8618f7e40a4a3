import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from test_ledger import KEY, commits, old_part, tracks

from pipeline.records.ledger import Ledger, Row
from pipeline.records.scan import Scan

COLUMNS = ("track_id", "status", "reason", "seconds", "phases", "peak_bytes", "begun")


def newest(scan: Scan) -> dict[str, tuple[object, ...]]:
    told = scan.table().to_pylist()
    return {row["track_id"]: (row["batch"], *(row[name] for name in COLUMNS)) for row in told}


def expected(ledger: Ledger, *batches: int) -> dict[str, tuple[object, ...]]:
    rows = {row.track_id: (batch, row) for batch in batches for row in ledger.rows("quality", KEY, batch).values()}
    plain = {name: (batch, replace(row, phases=list(row.phases.items()))) for name, (batch, row) in rows.items()}
    return {name: (batch, *(getattr(row, column) for column in COLUMNS)) for name, (batch, row) in plain.items()}


@settings(deadline=None, max_examples=12)
@given(history=commits)
def test_however_often_it_looks_the_last_row_of_a_track_is_the_ledgers(tmp_path_factory, history):
    ledger = Ledger(tmp_path_factory.mktemp("root"))
    often = Scan(ledger, "quality", KEY, COLUMNS)
    for number, group in enumerate(history):
        ledger.commit("quality", KEY, 3, group)
        ledger.commit("quality", KEY, 5, [Row(f"{number:032x}5", "ok")])
        assert newest(often) == newest(Scan(ledger, "quality", KEY, COLUMNS)) == expected(ledger, 3, 5)


def test_a_second_look_reads_only_what_came_since(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)
    scan = Scan(ledger, "quality", KEY, COLUMNS)
    assert scan.table().num_rows == 0
    read = []
    look = scan._columns_of
    monkeypatch.setattr(scan, "_columns_of", lambda part: (read.append(part.path.name), look(part))[1])
    for batch in (0, 1):
        ledger.commit("quality", KEY, batch, [Row(tracks[batch], "ok")])
        assert scan.table().num_rows == batch + 1
    assert scan.table().num_rows == 2
    assert read == ["part-00000.parquet", "part-00001.parquet"]


def test_a_song_that_was_forgotten_is_gone_at_the_next_look(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.commit("quality", KEY, 0, [Row(track, "ok") for track in tracks])
    scan = Scan(ledger, "quality", KEY, COLUMNS)
    assert set(newest(scan)) == set(tracks)
    ledger.forget(tracks[1], 0)
    assert set(newest(scan)) == set(tracks) - {tracks[1]}


def test_columns_that_older_parts_lack_are_null(tmp_path):
    ledger = Ledger(tmp_path)
    old_part(ledger, 0, tracks[0])
    scan = Scan(ledger, "quality", KEY, COLUMNS)
    assert newest(scan) == {tracks[0]: (0, tracks[0], "ok", "", 2.0, None, None, None)}
    ledger.commit("quality", KEY, 0, [Row(tracks[1], "ok", phases={"work": 1.0}, peak_bytes=5, begun=9.0)])
    assert newest(scan)[tracks[1]] == (0, tracks[1], "ok", "", 0.0, [("work", 1.0)], 5, 9.0)


@pytest.mark.skipif(sys.platform != "linux" and os.environ.get("CI") != "true", reason="needs Linux to count threads")
def test_no_arrow_thread_is_left_to_abort_the_process_at_exit(tmp_path):
    code = """if True:
        import os, pathlib, sys
        from pipeline.records.ledger import Ledger, Row
        from pipeline.records.scan import Scan
        before = len(os.listdir("/proc/self/task"))
        ledger = Ledger(pathlib.Path(sys.argv[1]))
        for batch in range(3):
            ledger.commit("q", "0" * 8, batch, [Row(f"{batch}-{number}", "ok") for number in range(300)])
        assert Scan(ledger, "q", "0" * 8, ["track_id", "phases"]).table().num_rows == 900
        print(len(os.listdir("/proc/self/task")) - before)
    """
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "0"
