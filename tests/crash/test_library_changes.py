"""A song's file changes or goes between a build that was cut off and the next one: `backline why` tells the story."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_build import Here, Job, SongsFailedError, build, context_of, outcome, samples, write_library
from typer.testing import CliRunner

from flows.bench.tiny import write_song
from flows.cli.main import commands
from flows.engine.attempt import Item
from flows.engine.engine import OnRow
from flows.stages.context import Context
from pipeline.records import files
from pipeline.records.catalog import Catalog
from pipeline.records.ledger import Ledger, Row
from pipeline.records.verify import verify_root

SETTINGS = ("rehearsal.read_audio=true", "library.decode.min_seconds=0.01", "rehearsal.results.quarantined=0.0")


class CutOff(Here):
    """Ends the build at the stage of a worker."""

    def __init__(self, worker: str) -> None:
        self.worker = worker

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        if worker.endswith(self.worker):
            raise KeyboardInterrupt
        return super().run(worker, context, items, on_row)


class Meddling(Here):
    """Something happens to the library in the middle of the build, before the stage of a worker."""

    def __init__(self, worker: str, meddle: Callable[[], object]) -> None:
        self.worker, self.meddle = worker, meddle

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        if worker.endswith(self.worker):
            self.worker = "done"
            self.meddle()
        return super().run(worker, context, items, on_row)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A build that was cut off before its songs were annotated."""
    monkeypatch.setenv("CRASH_LOG", str(tmp_path / "log"))
    library = tmp_path / "library"
    library.mkdir()
    write_library(library, 4)
    job = Job(str(tmp_path / "root"), str(library), SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        build(job, CutOff("AnnotationWorker"))
    return job


def song(job: Job) -> tuple[Path, str]:
    """The first song, which trains, and its track id."""
    path = Path(job.library) / "0000.wav"
    (row,) = Catalog(files.place(job.root)).find(str(path))
    return path, row.track_id


def why(job: Job, name: str) -> str:
    told = CliRunner().invoke(commands, ["why", "--root", job.root, name], env={"COLUMNS": "2000"})
    assert told.exit_code == 0, told.output
    return told.output


def keys(job: Job) -> str:
    return " ".join(samples(files.place(job.root)))


def status(job: Job, stage: str, track: str) -> tuple[str, str]:
    row = Ledger(files.place(job.root)).all_rows(stage, context_of(job).keys[stage])[track]
    return row.status, row.reason


def test_changed_file_is_a_new_song_and_the_old_one_says_so(job: Job) -> None:
    path, old = song(job)
    write_song(path, np.zeros(320, np.int16), 1, 0)
    build(job)
    new = song(job)[1]
    assert new != old
    assert (new in keys(job), old in keys(job)) == (True, False)
    assert status(job, "annotation", old) == ("quarantined", "replaced")
    story = why(job, old[:8])
    assert f"{path} now holds other bytes (track {new}); these are gone" in story
    assert "separation" in story
    assert "tokenization" in why(job, str(path))
    assert verify_root(files.place(job.root)) == []


def test_file_that_changes_during_a_build_is_not_heard_and_the_next_build_knows_two_songs(job: Job) -> None:
    path, old = song(job)
    meddle = Meddling("AnnotationWorker", lambda: write_song(path, np.zeros(320, np.int16), 1, 0))
    with pytest.raises(SongsFailedError):
        build(job, meddle)
    assert status(job, "annotation", old) == ("failed", "FileChangedError")
    assert "changed after it was catalogued" in why(job, old[:8])
    build(job)
    new = song(job)[1]
    assert new != old
    assert status(job, "annotation", old) == ("quarantined", "replaced")
    assert (new in keys(job), old in keys(job)) == (True, False)
    assert verify_root(files.place(job.root)) == []


def test_file_that_changed_during_a_build_and_came_back_is_as_if_nothing_had_happened(job: Job, tmp_path: Path) -> None:
    path, old = song(job)
    bytes_before = path.read_bytes()
    meddle = Meddling("AnnotationWorker", lambda: write_song(path, np.zeros(320, np.int16), 1, 0))
    with pytest.raises(SongsFailedError):
        build(job, meddle)
    path.write_bytes(bytes_before)
    build(job)
    undisturbed = Job(str(tmp_path / "undisturbed"), job.library, SETTINGS)
    build(undisturbed)
    assert old in keys(job)
    assert outcome(files.place(job.root)) == outcome(files.place(undisturbed.root))


def test_deleted_file_fails_its_song_until_it_is_back(job: Job, tmp_path: Path) -> None:
    path, track = song(job)
    path.rename(tmp_path / "away.wav")
    for _ in range(2):  # it is no verdict: the next build tries again
        with pytest.raises(SongsFailedError):
            build(job)
        assert status(job, "annotation", track) == ("failed", "FileMissingError")
    story = why(job, track[:8])
    assert f"{path} does not exist" in story
    assert "Traceback" not in story
    (tmp_path / "away.wav").rename(path)
    build(job)
    undisturbed = Job(str(tmp_path / "undisturbed"), job.library, SETTINGS)
    build(undisturbed)
    assert track in keys(job)
    assert outcome(files.place(job.root)) == outcome(files.place(undisturbed.root))


def test_song_that_was_done_stays_when_its_file_goes(job: Job) -> None:
    build(job)
    path, track = song(job)
    before = keys(job)
    path.unlink()
    build(job)
    assert keys(job) == before
    assert track in before


def test_build_that_another_one_overtook_lists_no_shorter_dataset(job: Job) -> None:
    from flows.build_dataset import check_overtaken
    from flows.work import BuildFailedError

    check_overtaken(context_of(job), [0, 1])
    write_library(Path(job.library), 6)
    build(job)
    with pytest.raises(BuildFailedError, match="grew from 2 to 3 batches"):
        check_overtaken(context_of(job), [0, 1])
