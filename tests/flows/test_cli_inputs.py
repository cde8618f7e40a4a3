"""Wrong input of the trainers' and the renderer's commands (and `flows.cli.folders`): one sentence, before any work."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.cli import codec, conditioning, separation, songs, structure
from flows.cli.folders import audio_files, rendered_songs


def run(app: typer.Typer, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})
    return result.exit_code, result.output


def test_audio_files_are_found_at_any_depth_in_a_fixed_order(tmp_path: Path) -> None:
    for name in ("b/two.WAV", "b/one.flac", "a/three.mp3", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.name for path in audio_files(tmp_path / "b", tmp_path / "a")]
    assert names == ["one.flac", "two.WAV", "three.mp3"]


def test_a_folder_without_audio_is_named(tmp_path: Path) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "a.wav").touch()
    with pytest.raises(typer.BadParameter, match=r"below .*empty"):
        audio_files(full, empty)


def test_codec_training_without_audio_writes_nothing(tmp_path: Path) -> None:
    code, said = run(codec.commands, "train", "--audio", str(tmp_path), "--out", str(tmp_path / "w.safetensors"))
    assert code == 2
    assert "no .wav" in said
    assert list(tmp_path.iterdir()) == []


def test_separator_training_without_songs_says_how_to_make_some(tmp_path: Path) -> None:
    here = str(tmp_path)
    words = ["--songs", here, "--music", here, "--speech", here, "--out", str(tmp_path / "w.safetensors")]
    code, said = run(separation.commands, "train", *words)
    assert code == 2
    assert "backline songs render" in said
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_songs_is_refused_for_other_kinds(tmp_path: Path) -> None:
    words = ["--out", str(tmp_path / "songs"), "--kind", "speech", "--fault", "no_chorus"]
    code, said = run(songs.commands, "render", *words)
    assert code == 2
    assert "no_chorus is a fault of songs, not of kind speech" in said
    assert not (tmp_path / "songs").exists()


@pytest.mark.parametrize(("app", "more"), [(structure.commands, []), (conditioning.commands, ["--cache", "heard"])])
def test_trainers_on_rendered_songs_say_how_to_make_some(app: typer.Typer, more: list[str], tmp_path: Path) -> None:
    code, said = run(app, "train", "--songs", str(tmp_path), "--out", str(tmp_path / "weights"), *more)
    assert code == 2
    assert "backline songs render" in said
    assert list(tmp_path.iterdir()) == []


def test_rendered_songs_are_found_in_every_folder(tmp_path: Path) -> None:
    for name in ("b/song-2", "b/song-1", "a/song-9"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "truth.json").touch()
    assert [path.name for path in rendered_songs(tmp_path / "b", tmp_path / "a")] == ["song-1", "song-2", "song-9"]
