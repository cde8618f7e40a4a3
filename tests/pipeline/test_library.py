import logging
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import BadInput
from pipeline.records.library import Source, scan_library


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b/two.FLAC",
        "a/one.wav",
        "notes.txt",
        "a/cover.jpg",
        "a/._one.wav",
        ".trash/old.wav",
        "not audio.mp3",
    ):
        (tmp_path / "music" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "music" / name).write_bytes(b"x")
    return tmp_path / "music"


def uris(library: str | Path) -> list[str]:
    return [source.uri for source in scan_library(str(library))]


def test_a_folder_gives_what_looks_like_audio_and_counts_the_rest(folder, caplog):
    with caplog.at_level(logging.INFO):
        assert uris(folder) == [str(folder / name) for name in ("a/one.wav", "b/two.FLAC", "not audio.mp3")]
    assert "3 audio files; ignored 3 others" in caplog.text


def test_a_folder_of_rendered_songs_is_what_its_manifest_lists_and_no_stems(folder, caplog):
    rendered = folder / "rendered"
    for name in ("mix", "vocal", "accompaniment"):
        (rendered / "song-3").mkdir(parents=True, exist_ok=True)
        (rendered / "song-3" / f"{name}.flac").write_bytes(b"x")
    stems = "song-3/vocal.flac,song-3/accompaniment.flac"
    (rendered / "manifest.csv").write_text(
        f"path,split,artist,text,licence,vocal,accompaniment\nsong-3/mix.flac,test,,slow,CC0-1.0,{stems}\n"
    )
    paths = {name: str(rendered / "song-3" / f"{name}.flac") for name in ("vocal", "accompaniment")}
    song = Source(str(rendered / "song-3" / "mix.flac"), "test", "", "slow", "CC0-1.0", **paths)
    with caplog.at_level(logging.INFO):
        assert scan_library(str(rendered)) == [song]
    assert f"{rendered / 'manifest.csv'} lists 1 songs" in caplog.text
    everything = scan_library(str(folder))  # a folder above it: the same song, and the loose files
    assert everything[0] == song
    assert [source.uri for source in everything[1:]] == [
        str(folder / name) for name in ("a/one.wav", "b/two.FLAC", "not audio.mp3")
    ]


@pytest.mark.parametrize("content", ["path,duration\nnowhere.wav,7\n", "split\ntest\n", b"\xff", b""])
def test_somebody_elses_table_in_a_folder_is_not_read_and_that_is_said(folder, caplog, content):
    (folder / "manifest.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert len(uris(folder)) == 3
    assert "is no manifest of ours" in caplog.text


def test_a_wrong_row_in_our_manifest_is_named(folder):
    (folder / "manifest.csv").write_text("path,split\na/one.wav,dev\n")
    with pytest.raises(BadInput, match="split 'dev'"):
        scan_library(str(folder))


def test_links_are_followed_once(folder):
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "c").symlink_to(folder / "b")
    assert sum(uri.endswith("two.FLAC") for uri in uris(folder)) == 1


def test_relative_folders_globs_and_single_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    everything = uris(folder)
    assert uris(".") == everything
    assert uris("**/*") == everything
    assert uris("a/*.wav") == everything[:1]
    assert uris("a/one.wav") == everything[:1]


def test_a_name_that_is_no_text_is_listed_so_that_it_can_be_reported(folder, caplog):
    with open(os.path.join(os.fsencode(folder), b"bad\xff.wav"), "wb"):
        pass
    assert str(folder / "bad\N{REPLACEMENT CHARACTER}.wav") in uris(folder)
    assert "is not UTF-8" in caplog.text


def test_a_text_manifest_is_a_path_or_url_a_line(folder):
    (folder / "list.txt").write_text(
        "\ufeffa/one.wav\n\n# a remark\nhttps://host/s.mp3?x=1\n/abs/gone.wav\nfile:///b.wav\n"
    )
    assert uris(folder / "list.txt") == [str(folder / "a/one.wav"), "https://host/s.mp3?x=1", "/abs/gone.wav", "/b.wav"]


ROWS = [
    {"uri": "a/one.wav", "split": "test", "artist": "Á", "text": 'slow, "blue"', "licence": "CC0-1.0"},
    {"uri": "s3://bucket/two.wav", "vocal": "v.wav", "accompaniment": "../acc.wav"},
]


def expected(folder: Path) -> list[Source]:
    stems = {"vocal": str(folder / "v.wav"), "accompaniment": str(folder.parent / "acc.wav")}
    first = Source(str(folder / "a/one.wav"), "test", "Á", 'slow, "blue"', "CC0-1.0")
    return [first, Source("s3://bucket/two.wav", **stems)]


def test_csv_and_parquet_manifests_say_the_same(folder):
    names = ["uri", "split", "artist", "text", "licence", "vocal", "accompaniment"]
    table = pa.table({name: [row.get(name) for row in ROWS] for name in names})
    pq.write_table(table, folder / "m.parquet")
    cell = 'a/one.wav,test,Á,"slow, ""blue""",CC0-1.0'
    (folder / "m.csv").write_text(f"{','.join(names)}\n{cell},,\ns3://bucket/two.wav,,,,,v.wav,../acc.wav\n")
    assert scan_library(str(folder / "m.parquet")) == expected(folder)
    assert scan_library(str(folder / "m.csv")) == expected(folder)


def test_a_manifest_far_away(folder):
    import fsspec

    with fsspec.open("memory://lists/m.csv", "w") as file:
        file.write("path\nsongs/a.wav\n")
    assert uris("memory://lists/m.csv") == ["memory://lists/songs/a.wav"]


@pytest.mark.parametrize(
    ("name", "content", "reason", "words"),
    [
        ("m.csv", "song\na.wav\n", "manifest_columns", "need one of 'path', 'uri'"),
        ("m.csv", "path,uri\na.wav,b.wav\n", "manifest_columns", "need one of"),
        ("m.csv", "path,license\na.wav,CC0\n", "manifest_columns", "rename it to 'licence'"),
        ("m.csv", "path,split\na.wav,dev\n", "manifest_split", "song 1: split 'dev'; use train, val, test"),
        ("m.csv", "path,split\n,test\n", "manifest_row", "song 1: no path"),
        ("m.csv", "path,vocal\na.wav,v.wav\n", "manifest_row", "come in pairs"),
        ("m.csv", "path,text\na.wav,slow, blue\n", "manifest_unreadable", "more cells than the header"),
        ("m.csv", "", "manifest_columns", "need one of"),
        ("m.csv", b"path\n\xff.wav\n", "manifest_unreadable", "utf-8"),
        ("m.parquet", "path\n", "manifest_unreadable", "can't be read"),
        ("m.csv", "path\n", "library_empty", "names no song"),
        ("m.txt", "# nothing\n", "library_empty", "names no song"),
    ],
)
def test_manifests_that_can_not_be_used_are_named(tmp_path, name, content, reason, words):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput, match=words) as caught:
        scan_library(str(tmp_path / name))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("nowhere", "library_missing"),
        ("nowhere.csv", "library_missing"),
        ("no*where", "library_empty"),
        ("", "library_missing"),
        ("s3://bucket/songs", "library_kind"),
    ],
)
def test_libraries_that_are_not_there_are_named(tmp_path, monkeypatch, library, reason):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as caught:
        scan_library(library)
    assert caught.value.reason == reason
    assert repr(library) in str(caught.value)


def test_an_unused_column_is_said(tmp_path, caplog):
    (tmp_path / "m.csv").write_text("path,duration\na.wav,7\n")
    assert len(uris(tmp_path / "m.csv")) == 1
    assert "'duration' is not used" in caplog.text
