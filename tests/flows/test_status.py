"""`backline status` and `quarantine`, and what Prefect's UI shows of a build: all from what is committed."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from test_survey import before, commit, context, opened
from typer.testing import CliRunner

from flows import artifacts
from flows.artifacts import progress_shown, show_progress_of
from flows.cli.main import commands
from flows.progress import progress_of
from flows.stages.context import Context
from flows.stages.graph import NODES
from flows.status import NOTE, build_of, note_build
from flows.survey import Survey
from pipeline.errors import BadInput

__all__ = ["context"]  # the fixture


@pytest.fixture
def begun(context: Context) -> Context:
    """40 songs: all heard, 10 of them told to be speech, 20 rated, one torn, one that broke something."""
    note_build(context)
    commit(context, range(40), *before("detection"))
    commit(context, range(30), "detection")
    commit(context, range(30, 40), "detection", status="rejected")
    commit(context, range(18), "quality")
    commit(context, range(18, 19), "quality", status="quarantined")
    commit(context, range(19, 20), "quality", status="failed")
    return context


def run(*words: str) -> str:
    told = CliRunner().invoke(commands, list(words), env={"COLUMNS": "200"})
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    return told.stdout


def line(text: str, name: str) -> list[str]:
    return next(cells for row in text.splitlines() if (cells := row.split()) and cells[0] == name)


def test_a_root_tells_what_is_built_in_it_and_the_same_build_writes_nothing_new(context: Context) -> None:
    note_build(context)
    path = Path(str(context.root)) / NOTE
    first = path.stat().st_mtime_ns
    note_build(context)
    assert path.stat().st_mtime_ns == first
    assert build_of(context.root) == context
    other = opened(Path(str(context.root)), "selection.gate.threshold=2.0")
    note_build(other)
    assert build_of(context.root) == other != context


def test_a_root_without_a_note_tells_the_build_of_its_one_dataset(context: Context) -> None:
    with pytest.raises(BadInput, match="--recipe"):
        build_of(context.root)
    dataset = context.root / "datasets" / "demo"
    dataset.mkdir(parents=True)  # type: ignore[union-attr]
    (dataset / "recipe.json").write_bytes(context.recipe.model_dump_json().encode())  # type: ignore[union-attr]
    assert build_of(context.root) == context
    assert build_of(context.root, "demo").recipe.name == "demo"


def test_a_note_of_another_version_is_refused_in_a_sentence(context: Context) -> None:
    (Path(str(context.root)) / NOTE).write_text('{"recipe": {}, "keys": {}}')
    with pytest.raises(BadInput, match="another version"):
        build_of(context.root)


def test_status_shows_every_stage_with_its_pace_and_what_is_to_come(begun: Context) -> None:
    told = run("status", str(begun.root))
    assert "40 songs" in told
    assert line(told, "detection")[1:5] == ["40", "40", "30", "10"]
    # 19 settled of 30 wanted, 18 ok, 1 quarantined, 1 failed; one song begun each second, 0.5 s each
    assert line(told, "quality")[1:6] == ["19", "30", "18", "1", "1"]
    assert "at least" in told
    assert "no song has been through separation" in told
    assert [name for name in NODES if any(row.split()[:1] == [name] for row in told.splitlines())] == list(NODES)


def test_status_as_json_has_all_numbers(begun: Context) -> None:
    told = json.loads(run("status", str(begun.root), "--json"))
    quality = next(stage for stage in told["stages"] if stage["stage"] == "quality")
    assert (quality["ok"], quality["failed"], quality["quarantined"]) == (18, {"why": 1}, {"why": 1})
    assert quality["phases"] == {"work": pytest.approx(10.0)}
    assert quality["wall_seconds"] == pytest.approx(19.5)
    assert quality["songs_per_second"] == pytest.approx(20 / 19.5)
    assert quality["peak_bytes"] == 7
    assert set(told["batches"]["detection"]) == {"0", "1"}
    assert told["eta_lacks"][0] == "separation"
    assert next(stage for stage in told["stages"] if stage["stage"] == "separation")["songs_per_second"] is None


def test_status_of_one_stage_is_batch_by_batch(begun: Context) -> None:
    told = run("status", str(begun.root), "--stage", "detection")
    assert line(told, "0")[1:3] == ["20", "20"]
    assert line(told, "1")[1:5] == ["20", "10", "why", "10"]
    with pytest.raises(ValueError, match="no stage 'nosuch'; there are fingerprint, detection"):
        run("status", str(begun.root), "--stage", "nosuch")


def test_watching_ends_when_nothing_is_left(context: Context) -> None:
    commit(context, range(40), *before("detection"))
    commit(context, range(40), "detection", status="rejected")
    note_build(context)
    assert "100.0% done" in run("status", str(context.root), "--watch", "0.01")


def test_quarantine_lists_counts_and_exports_the_songs_that_were_dropped(begun: Context, tmp_path: Path) -> None:
    root = str(begun.root)
    told = run("quarantine", root)
    assert line(told, "quality") == ["quality", "quarantined", "why", "1"]
    assert line(told, "18.flac")[:3] == ["18.flac", "quality", "why"]
    assert "No song is quarantined" in run("quarantine", root, "--stage", "detection")
    assert "No song is failed" in run("quarantine", root, "--status", "failed", "--reason", "other")
    table, text = tmp_path / "dropped.parquet", tmp_path / "failed.csv"
    assert "12 songs" in run("quarantine", root, "--status", "all", "--out", str(table)).replace("\n", " ")
    found = pq.ParquetFile(table).read(use_threads=False).to_pylist()
    assert [(row["stage"], row["status"]) for row in found].count(("detection", "rejected")) == 10
    assert found[0] == {
        "track_id": f"{30:032x}", "stage": "detection", "key": begun.keys["detection"], "status": "rejected",
        "reason": "why", "message": "", "uri": "30.flac", "batch": 1, "duration": 60.0, "seconds": 0.5,
    }  # fmt: skip
    run("quarantine", root, "--status", "failed", "--out", str(text))
    with text.open(newline="", encoding="utf-8") as file:
        assert [(row["uri"], row["status"]) for row in csv.DictReader(file)] == [("19.flac", "failed")]
    with pytest.raises(BadInput, match=r"\.parquet or \.csv"):
        run("quarantine", root, "--out", str(tmp_path / "dropped.xlsx"))
    with pytest.raises(ValueError, match="no status 'odd'"):
        run("quarantine", root, "--status", "odd")


def test_status_asks_no_server_and_loads_nothing_heavy(begun: Context) -> None:
    code = """if True:
        import sys
        from typer.testing import CliRunner
        from flows.cli.main import commands
        told = CliRunner().invoke(commands, ["status", sys.argv[1]])
        assert told.exit_code == 0, told.output
        print(sorted({name.partition(".")[0] for name in sys.modules} & {"prefect", "torch", "matplotlib", "ray"}))
    """
    told = subprocess.run([sys.executable, "-c", code, str(begun.root)], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_prefect_shows_where_a_build_stands_also_when_it_fails(prefect: None, begun: Context) -> None:
    from prefect import flow, get_client

    @flow(name="breaks")
    def breaks() -> None:
        with progress_shown(begun):
            raise RuntimeError("it broke")

    with pytest.raises(RuntimeError, match="it broke"):
        breaks()
    with get_client(sync_client=True) as client:
        made = sorted(client.read_artifacts(), key=lambda found: str(found.created))
    shown = {found.key: found.data for found in made}
    assert set(shown) >= {"funnel", "pace", "funnel-chart", "pace-chart", "build-progress"}
    table = json.loads(str(shown["funnel"]))
    assert next(row for row in table if row["stage"] == "quality")["quarantined"] == "why 1"
    pace = json.loads(str(shown["pace"]))
    assert next(row for row in pace if row["stage"] == "detection")["work, s a song"] == 0.5
    assert [row["songs in smaller batches"] for row in pace] == [0] * len(pace)
    assert float(str(shown["build-progress"])) == pytest.approx(100 * progress_of(Survey(begun).look()).share)
    assert str(shown["pace-chart"]).startswith("data:image/svg+xml;base64,")


def test_a_server_that_takes_no_artifact_stops_no_build(
    begun: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = []

    def refuse(*given: object, **named: object) -> None:
        raise httpx.ConnectError("nobody listens")

    monkeypatch.setattr(artifacts, "create_progress_artifact", refuse)
    monkeypatch.setattr(artifacts, "create_table_artifact", lambda table, key, description: taken.append(key))
    show_progress_of(begun)
    assert taken == []  # one that is away is asked once, not for every artifact
    assert caplog.text.count("did not take it (ConnectError: nobody listens)") == 1
