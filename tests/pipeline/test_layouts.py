"""Published collections in tiny, in their publishers' layouts: what becomes of each song, and what is left out."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.audio import decode, write
from pipeline.errors import BadInput
from pipeline.records.layouts import MOISES, MUSDB, STEM, SUNO, read, write_manifest
from pipeline.records.library import scan_library
from pipeline.types import Audio

RATE = 8000


def tone(path: Path, level: float, seconds: float = 0.1, channels: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, Audio(np.full((channels, int(RATE * seconds)), level, np.float32), RATE))


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"mp3")


def level(path: str) -> float:
    return float(decode(path, STEM).samples[:, 10].mean())


def test_musdb18_hq(tmp_path: Path) -> None:
    for split, name in (("train", "Band - One"), ("test", "Two")):
        for stem, value in (("mixture", 0.7), ("drums", 0.1), ("bass", 0.2), ("other", 0.3), ("vocals", 0.1)):
            tone(tmp_path / "m" / split / name / f"{stem}.wav", value)
    one, two = read("musdb18-hq", str(tmp_path / "m"), tmp_path / "stems")
    assert (one.split, one.artist, one.licence, two.split, two.artist) == ("train", "Band", MUSDB, "test", "")
    assert level(one.accompaniment) == pytest.approx(0.6, abs=1e-3)
    assert level(one.vocal) == pytest.approx(0.1, abs=1e-3)
    write_manifest([one, two], tmp_path / "manifest.csv")
    assert scan_library(str(tmp_path / "manifest.csv")) == [one, two]
    before = Path(one.accompaniment).stat().st_mtime_ns
    assert read("musdb18-hq", str(tmp_path / "m"), tmp_path / "stems")[0] == one
    assert Path(one.accompaniment).stat().st_mtime_ns == before


def moises_song(folder: Path, bleed: bool, loud: float) -> None:
    stems = [
        {"stemName": "vocals", "tracks": [{"id": "v1", "trackType": "lead", "has_bleed": bleed, "extension": "wav"}]},
        {"stemName": "drums", "tracks": [{"id": i, "trackType": "kit", "extension": "wav"} for i in ("d1", "d2")]},
    ]
    folder.mkdir(parents=True)
    facts = {"song": "S", "artist": "A", "genre": "rock", "stems": stems}
    (folder / "data.json").write_text(json.dumps(facts), encoding="utf-8")
    tone(folder / "vocals" / "v1.wav", loud, channels=1)
    tone(folder / "drums" / "d1.wav", loud, 0.2)
    tone(folder / "drums" / "d2.wav", 0.1)


@pytest.mark.parametrize(("loud", "scale"), [(0.2, 1.0), (0.8, 0.999 / 1.7)])
def test_moisesdb_mixes_what_it_has_without_clipping_and_leaves_bleed_out(
    tmp_path: Path, loud: float, scale: float
) -> None:
    moises_song(tmp_path / "db" / "moisesdb_v0.1" / "uuid-1", False, loud)
    moises_song(tmp_path / "db" / "moisesdb_v0.1" / "uuid-2", True, loud)
    (song,) = read("moisesdb", str(tmp_path / "db"), tmp_path / "stems")
    assert (song.artist, song.text, song.licence) == ("A", "rock", MOISES)
    levels = [level(path) for path in (song.vocal, song.accompaniment, song.uri)]
    assert levels == pytest.approx([loud * scale, (loud + 0.1) * scale, (2 * loud + 0.1) * scale], abs=1e-3)
    assert {decode(path, STEM).length for path in (song.accompaniment, song.uri)} == {int(0.2 * RATE)}


def test_suno70k(tmp_path: Path) -> None:
    songs = [
        {"id": "a", "audio_url": "https://cdn/a.mp3", "metadata": {"tags": "Rock, pop", "prompt": "[Verse] la"}},
        {"id": "b", "audio_url": "https://cdn/b.mp3", "metadata": {"tags": None, "prompt": ""}},
    ]
    (tmp_path / "suno70k_metadata.jsonl").write_text("\n".join(map(json.dumps, songs)) + "\n")
    captions = [
        {"path": "x/a.mp3", "Qwen_caption": ["pop", "Guitar"]},
        {"path": "x/b.mp3", "Qwen_caption": ", ".join(map(str, range(30)))},
    ]
    (tmp_path / "qwen2_caption_v2_postprocess.json").write_text(json.dumps(captions))
    (tmp_path / "val_ids.txt").write_text("b\n")
    touch(tmp_path / "audio" / "b.mp3")
    a, b = read("suno70k", str(tmp_path), tmp_path)
    assert (a.uri, a.split, a.text, a.licence) == ("https://cdn/a.mp3", "train", "rock, pop, guitar", SUNO)
    assert (b.uri, b.split, len(b.text.split(", "))) == (str(tmp_path / "audio" / "b.mp3"), "test", 20)
    (tmp_path / "val_ids.txt").unlink()
    assert {song.split for song in read("suno70k", str(tmp_path), tmp_path)} == {""}


@pytest.mark.parametrize("beside", [False, True])
def test_suno70ks_held_out_songs_are_those_of_the_published_data_set(tmp_path: Path, beside: bool) -> None:
    """As SongEcho's repository has it: an Arrow stream with the song's id in ``keys``."""
    root = tmp_path / "suno70k"
    root.mkdir()
    songs = [{"id": name, "audio_url": f"https://cdn/{name}.mp3", "metadata": {}} for name in "abc"]
    (root / "suno70k_metadata.jsonl").write_text("\n".join(map(json.dumps, songs)) + "\n")
    folder = (tmp_path if beside else root) / "suno70k_prompt_val"
    folder.mkdir()
    table = pa.table({"keys": ["c"], "filename": ["/music/c.mp3"], "tags": [["rock"]]})
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as stream:
        stream.write_table(table)
    assert [song.split for song in read("suno70k", str(root), tmp_path)] == ["train", "train", "test"]
    (folder / "data-00000-of-00001.arrow").write_bytes(b"no arrow")
    with pytest.raises(BadInput, match="has not the layout of suno70k"):
        read("suno70k", str(root), tmp_path)


def test_mtg_jamendo(tmp_path: Path) -> None:
    head = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
    rows = [
        "track_1\tartist_7\talbum_1\t48/1.mp3\t212.7\tgenre---rock\tmood/theme---sad",
        "track_2\tartist_8\talbum_2\t49/2.mp3\t100\tinstrument---piano",
        "track_3\tartist_9\talbum_3\t50/3.mp3\t1\tgenre---pop",
    ]
    splits = tmp_path / "data" / "splits" / "split-0"
    splits.mkdir(parents=True)
    (tmp_path / "data" / "autotagging.tsv").write_text(head + "\n".join(rows) + "\n")
    (splits / "autotagging-validation.tsv").write_text(head + rows[0] + "\n")
    link = "http://creativecommons.org/licenses/by-nc-sa/3.0/"
    (tmp_path / "audio_licenses.txt").write_text(
        "48/1.mp3\nA song by B from Jamendo: http://www.jamendo.com/track/1\n"
        f"Available under a Creative Commons license: {link}\n\n"
    )
    touch(tmp_path / "audio" / "48" / "1.mp3")
    touch(tmp_path / "audio" / "49" / "2.low.mp3")
    one, two = read("mtg-jamendo", str(tmp_path), tmp_path)
    assert (one.split, one.artist, one.text, one.licence) == ("val", "artist_7", "rock, sad", link)
    assert (two.uri, two.split, two.text, two.licence) == (
        str(tmp_path / "audio" / "49" / "2.low.mp3"),
        "",
        "piano",
        "not stated",
    )


def test_fma(tmp_path: Path) -> None:
    lines = [
        ["", "artist", "set", "track", "track"], ["", "name", "split", "genre_top", "license"],
        ["track_id", "", "", "", ""], ["2", "AWOL", "training", "Hip-Hop", "Attribution-NonCommercial"],
        ["141", "B, C", "test", "", ""], ["150", "D", "validation", "Rock", "CC0"],
    ]  # fmt: skip
    (tmp_path / "fma_metadata").mkdir()
    with (tmp_path / "fma_metadata" / "tracks.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    touch(tmp_path / "fma_small" / "000" / "000002.mp3")
    touch(tmp_path / "fma_small" / "000" / "000141.mp3")
    one, two = read("fma", str(tmp_path), tmp_path)
    assert (one.split, one.artist, one.text, one.licence) == ("train", "AWOL", "Hip-Hop", "Attribution-NonCommercial")
    assert (two.split, two.artist, two.text, two.licence) == ("test", "B, C", "", "not stated")


def test_folder_and_prefix(tmp_path: Path) -> None:
    import fsspec

    tone(tmp_path / "a.wav", 0.1)
    assert [song.uri for song in read("folder", str(tmp_path), tmp_path)] == [str(tmp_path / "a.wav")]
    store = fsspec.filesystem("memory")
    for name in ("lib/b.flac", "lib/sub/a.mp3", "lib/._c.mp3", "lib/cover.jpg"):
        store.pipe(f"/{name}", b"x")
    found = [song.uri for song in read("prefix", "memory://lib", tmp_path)]
    assert [uri.rpartition("lib/")[2] for uri in found] == ["b.flac", "sub/a.mp3"]


@pytest.mark.parametrize("kind", ["musdb18-hq", "moisesdb", "suno70k", "mtg-jamendo", "fma"])
def test_another_layout_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(BadInput, match=kind):
        read(kind, str(tmp_path), tmp_path)


def test_no_such_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are folder, prefix, suno70k"):
        read("spotify", str(tmp_path), tmp_path)
