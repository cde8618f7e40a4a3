import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Config
from pipeline.records import parquet, values
from pipeline.records.ledger import Ledger, Row, Status, stage_key
from pipeline.records.store import Artefact
from pipeline.types import Section

KEY = "0a1b2c3d"
tracks = [f"{number:032x}" for number in range(4)]
rows = st.builds(
    Row,
    track_id=st.sampled_from(tracks),
    status=st.sampled_from(Status.__args__),
    reason=st.sampled_from(["", "too_long"]),
    message=st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    values=st.just("{}"),
    artefacts=st.lists(st.just(Artefact("vocal", "audio/ab/x.flac", "0" * 64, 7)), max_size=2).map(tuple),
    seconds=st.floats(0, 1e6),
    phases=st.dictionaries(st.sampled_from(["load", "work"]), st.floats(0, 1e6)),
    peak_bytes=st.integers(0, 2**50),
    begun=st.floats(0, 1e10),
)
commits = st.lists(st.lists(rows, max_size=4, unique_by=lambda row: row.track_id), max_size=5)


class Knobs(Config):
    level: float = -45.0
    name: str = "é"


class SameKnobs(Config):
    name: str = "é"
    level: float = -45.0


@settings(deadline=None, max_examples=30)
@given(history=commits)
def test_the_first_settled_row_of_a_track_holds_and_failures_are_retried(tmp_path_factory, history):
    ledger = Ledger(tmp_path_factory.mktemp("root"))
    model: dict[str, Row] = {}
    for group in history:
        ledger.commit("quality", KEY, 3, group)
        for row in group:
            if row.track_id not in model or model[row.track_id].status == "failed":
                model[row.track_id] = row
        assert ledger.rows("quality", KEY, 3) == model
    assert ledger.all_rows("quality", KEY) == model


def test_generations_are_files_and_no_part_is_ever_rewritten(tmp_path):
    ledger = Ledger(tmp_path)
    first = ledger.commit("quality", KEY, 42, [Row(tracks[0], "ok"), Row(tracks[1], "failed")])
    assert first == tmp_path / "stages" / f"quality-{KEY}" / "part-00042.parquet"
    before = first.read_bytes()
    second = ledger.commit("quality", KEY, 42, [Row(tracks[0], "rejected"), Row(tracks[1], "ok"), Row(tracks[2], "ok")])
    assert second.name == "part-00042-g001.parquet"
    assert first.read_bytes() == before
    assert {row.status for row in ledger.rows("quality", KEY, 42).values()} == {"ok"}
    assert ledger.commit("quality", KEY, 42, [Row(tracks[0], "rejected")]) == second
    assert len(list(first.parent.iterdir())) == 2


def test_force_is_the_newer_truth(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.commit("quality", KEY, 0, [Row(tracks[0], "ok")])
    ledger.commit("quality", KEY, 0, [Row(tracks[0], "rejected", "quiet")], force=True)
    assert ledger.rows("quality", KEY, 0) == {tracks[0]: Row(tracks[0], "rejected", "quiet")}


def test_writers_at_once_agree_and_lose_no_track(tmp_path):
    ledger = Ledger(tmp_path)

    def write(writer: int) -> None:
        Ledger(tmp_path).commit("q", KEY, 0, [Row(tracks[0], "ok", backend=str(writer)), Row(f"{writer:032x}a", "ok")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(ledger.rows("q", KEY, 0)) == 9
    assert len({row.backend for _, _, row in ledger.story(tracks[0])}) == 1
    assert [path for path in ledger.directory("q", KEY).iterdir() if path.name.startswith(".")] == []


def test_nothing_to_do_is_remembered(tmp_path):
    ledger = Ledger(tmp_path)
    part = ledger.commit("quality", KEY, 7, [])
    assert ledger.commit("quality", KEY, 7, []) == part
    assert list(part.parent.iterdir()) == [part]
    assert ledger.rows("quality", KEY, 7) == {}


def test_what_a_killed_writer_leaves_is_no_part(tmp_path):
    ledger = Ledger(tmp_path)
    directory = ledger.commit("quality", KEY, 0, [Row(tracks[0], "ok")]).parent
    (directory / ".attempt-1-part-00001.parquet").write_bytes(b"PAR1")
    (directory / "part-00002.parquet.tmp").write_bytes(b"PAR1")
    assert len(ledger.all_rows("quality", KEY)) == 1


def test_batch_numbers_are_not_prefixes(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.commit("q", KEY, 123_456, [Row(tracks[0], "ok")])
    ledger.commit("q", KEY, 12_345, [Row(tracks[1], "ok")])
    assert list(ledger.rows("q", KEY, 12_345)) == [tracks[1]]


def test_a_story_keeps_its_order_when_the_clock_is_put_back(tmp_path, monkeypatch):
    ledger, track = Ledger(tmp_path), "ab" * 16
    ledger.commit("quality", KEY, 0, [Row(track, "failed")])

    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(1999, 1, 1, tzinfo=tz)

    monkeypatch.setattr("pipeline.records.ledger.datetime", Earlier)
    ledger.commit("quality", KEY, 0, [Row(track, "ok")])
    assert [row.status for _, _, row in ledger.story(track)] == ["failed", "ok"]


def test_a_story_is_told_in_the_order_of_commits(tmp_path):
    ledger = Ledger(tmp_path)
    told = [("quality", "failed"), ("detection", "ok"), ("quality", "ok")]
    for stage, status in told:
        ledger.commit(stage, KEY, 0, [Row(tracks[0], status), Row(tracks[1], "ok")])
    story = ledger.story(tracks[0])
    assert [(stage, row.status) for stage, _, row in story] == told
    assert ledger.story(tracks[0], batch=0) == story
    assert ledger.story(tracks[0], batch=1) == []
    assert ledger.stages() == [("detection", KEY), ("quality", KEY)]


@pytest.mark.parametrize(
    ("bad", "words"),
    [([Row(tracks[0], "done")], "status 'done'"), ([Row(tracks[0], "ok")] * 2, "has two rows")],
)
def test_rows_that_make_no_sense_are_refused(tmp_path, bad, words):
    with pytest.raises(ValueError, match=words):
        Ledger(tmp_path).commit("quality", KEY, 0, bad)
    assert Ledger(tmp_path).stages() == []


@pytest.mark.parametrize(("stage", "key"), [("a/b", KEY), ("quality", "xyz"), ("", KEY), ("..", KEY)])
def test_names_that_would_leave_the_root_are_refused(tmp_path, stage, key):
    with pytest.raises(ValueError, match="need a-z"):
        Ledger(tmp_path).directory(stage, key)


def test_a_stage_key_follows_from_what_the_stage_depends_on_and_nothing_else():
    key = stage_key("quality", 1, Knobs(), {"detection": KEY, "catalog": "x"})
    assert key == stage_key("quality", 1, SameKnobs(), {"catalog": "x", "detection": KEY})
    others = {
        stage_key("quality", 2, Knobs(), {"detection": KEY, "catalog": "x"}),
        stage_key("detection", 1, Knobs(), {"detection": KEY, "catalog": "x"}),
        stage_key("quality", 1, Knobs(level=-44.0), {"detection": KEY, "catalog": "x"}),
        stage_key("quality", 1, Knobs(), {"detection": "0" * 8, "catalog": "x"}),
        stage_key("quality", 1, Knobs(), {"detection": KEY}),
    }
    assert len(others | {key}) == 6
    assert stage_key("quality", 1, Knobs(), {}) == "99af472a"  # frozen: another value would redo every build


@dataclass(frozen=True, slots=True)
class Measured:
    kind: Literal["song", "speech"]
    level: float
    sections: tuple[Section, ...]
    scores: dict[str, float]


@settings(deadline=None)
@given(
    level=st.floats(),
    times=st.lists(st.floats(allow_nan=False), max_size=3),
    scores=st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False), max_size=3),
)
def test_a_result_comes_back_typed(level, times, scores):
    result = Measured("song", level, tuple(Section(time, time + 1, "verse") for time in times), scores)
    back = values.load(Measured, values.dump(result))
    assert math.isnan(back.level) if math.isnan(level) else back.level == level
    assert replace(back, level=0.0) == replace(result, level=0.0)
    assert values.dump(back) == values.dump(result)


def test_a_result_of_another_type_is_refused():
    with pytest.raises(ValueError, match="kind"):
        values.load(Measured, '{"level": 1.0}')


@pytest.mark.skipif(
    not Path("/proc/self/task").exists() and os.environ.get("CI") != "true", reason="needs Linux to count threads"
)
def test_no_arrow_thread_is_left_to_abort_the_process_at_exit(tmp_path):
    code = """if True:
        import os, pathlib, sys
        from pipeline.records.ledger import Ledger, Row
        before = len(os.listdir("/proc/self/task"))
        ledger = Ledger(pathlib.Path(sys.argv[1]))
        for batch in range(3):
            ledger.commit("q", "0" * 8, batch, [Row(f"{batch}-{number}", "ok") for number in range(300)])
        assert len(ledger.all_rows("q", "0" * 8)) == 900 and len(ledger.story("1-1")) == 1
        print(len(os.listdir("/proc/self/task")) - before)
    """
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "0"


def test_a_root_can_be_moved(tmp_path):
    Ledger(tmp_path / "old").commit("quality", KEY, 0, [Row(tracks[0], "ok")])
    (tmp_path / "old").rename(tmp_path / "new")
    assert Ledger(Path(tmp_path / "new")).rows("quality", KEY, 0)[tracks[0]].status == "ok"


OLD_ARTEFACT = pa.struct([(name, pa.string()) for name in ("name", "path", "sha256")] + [("bytes", pa.int64())])
OLD_PARTS = pa.schema(  # as parts were before rows told phases and memory
    [(name, pa.string()) for name in ("track_id", "status", "reason", "message", "values")]
    + [("artefacts", pa.list_(OLD_ARTEFACT)), ("seconds", pa.float64())]
    + [(name, pa.string()) for name in ("backend", "weights_sha256", "licence")],
    metadata={"committed_at": "2026-11-22T12:00:00.000000+00:00"},
)


def old_part(ledger: Ledger, batch: int, *track_ids: str) -> None:
    plain = {"status": "ok", "artefacts": [{"name": "vocal", "path": "a", "sha256": "0", "bytes": 7}], "seconds": 2.0}
    rows = [dict.fromkeys(OLD_PARTS.names, "") | plain | {"track_id": track_id} for track_id in track_ids]
    path = ledger.directory("quality", KEY) / f"part-{batch:05d}.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(parquet.encode(pa.Table.from_pylist(rows, schema=OLD_PARTS)))


def test_parts_of_an_older_version_are_read_and_carried_on(tmp_path):
    ledger = Ledger(tmp_path)
    old_part(ledger, 0, tracks[0], tracks[1])
    old = Row(tracks[0], "ok", artefacts=(Artefact("vocal", "a", "0", 7),), seconds=2.0)
    new = Row(tracks[2], "ok", phases={"decode": 0.5, "work": 1.5}, peak_bytes=1 << 33, begun=1.8e9)
    ledger.commit("quality", KEY, 0, [new])
    assert ledger.rows("quality", KEY, 0) == {
        tracks[0]: old,
        tracks[1]: replace(old, track_id=tracks[1]),
        tracks[2]: new,
    }
    assert ledger.story(tracks[0]) == [("quality", KEY, old)]
    assert ledger.forget(tracks[1], 0) == 1
    assert ledger.rows("quality", KEY, 0) == {tracks[0]: old, tracks[2]: new}
