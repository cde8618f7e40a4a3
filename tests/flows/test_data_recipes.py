"""Published collections all the way to the data card: the command makes the manifest, the catalogue takes it, and the
card names every licence as its collection states it.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flows.cli.main import commands
from flows.data_card import card
from flows.funnel import funnel
from flows.recipe import load_recipe
from flows.stages.context import Context
from flows.stages.graph import stage_keys
from pipeline.audio import write
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.layouts import MOISES, MUSDB, READERS, SUNO
from pipeline.records.library import scan_library
from pipeline.types import Audio

RATE = 16_000
BY_NC = "http://creativecommons.org/licenses/by-nc-sa/3.0/"
Maker = Callable[[Path], dict[str, int]]
"""Writes a collection; licence -> songs, as the card should count them."""


def sound(path: Path, seed: int) -> None:
    """Six seconds of noise, a FLAC whatever its name says: every one is another song."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, (2, 6 * RATE)).astype(np.float32)
    write(path.with_suffix(".flac"), Audio(samples, RATE))
    path.with_suffix(".flac").rename(path)


def folder(place: Path) -> dict[str, int]:
    sound(place / "a.flac", 1)
    sound(place / "album" / "b.flac", 2)
    return {"not stated": 2}


def suno70k(place: Path) -> dict[str, int]:
    songs = [{"id": name, "audio_url": f"https://cdn/{name}.mp3", "metadata": {"tags": "pop"}} for name in "ab"]
    place.mkdir()
    (place / "suno70k_metadata.jsonl").write_text("\n".join(map(json.dumps, songs)))
    sound(place / "audio" / "a.mp3", 3)
    sound(place / "audio" / "b.mp3", 4)
    return {SUNO: 2}


def mtg_jamendo(place: Path) -> dict[str, int]:
    (place / "data").mkdir(parents=True)
    rows = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"]
    rows += [f"track_{n}\tartist_{n}\talbum_1\t48/{n}.mp3\t6.0\tgenre---rock" for n in (1, 2)]
    (place / "data" / "autotagging.tsv").write_text("\n".join(rows))
    (place / "audio_licenses.txt").write_text(
        f"48/1.mp3\nA song\nAvailable under a Creative Commons license: {BY_NC}\n"
    )
    sound(place / "audio" / "48" / "1.mp3", 5)
    sound(place / "audio" / "48" / "2.mp3", 6)
    return {BY_NC: 1, "not stated": 1}


def fma(place: Path) -> dict[str, int]:
    (place / "fma_metadata").mkdir(parents=True)
    head = [["", "artist", "set", "track", "track"], ["", "name", "split", "genre_top", "license"], ["track_id"]]
    with (place / "fma_metadata" / "tracks.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [*head, ["2", "A", "training", "Rock", "Attribution"], ["3", "B", "test", "", "CC0"]]
        )
    sound(place / "fma_small" / "000" / "000002.mp3", 7)
    sound(place / "fma_small" / "000" / "000003.mp3", 8)
    return {"Attribution": 1, "CC0": 1}


def musdb18_hq(place: Path) -> dict[str, int]:
    for number, name in enumerate(("mixture", "drums", "bass", "other", "vocals")):
        sound(place / "train" / "Band - One" / f"{name}.wav", 10 + number)
    return {MUSDB: 1}


def moisesdb(place: Path) -> dict[str, int]:
    tracks = [("vocals", "v"), ("drums", "d")]
    stems = [{"stemName": s, "tracks": [{"id": t, "has_bleed": False, "extension": "wav"}]} for s, t in tracks]
    for number, (stem, track) in enumerate(tracks):
        sound(place / "uuid" / stem / f"{track}.wav", 20 + number)
    (place / "uuid" / "data.json").write_text(json.dumps({"artist": "A", "genre": "rock", "stems": stems}))
    return {MOISES: 1}


@pytest.mark.parametrize(
    ("kind", "make", "true_stems"),
    [
        ("folder", folder, False),
        ("suno70k", suno70k, False),
        ("mtg-jamendo", mtg_jamendo, False),
        ("fma", fma, False),
        ("musdb18-hq", musdb18_hq, True),
        ("moisesdb", moisesdb, True),
    ],
)
def test_the_licence_of_every_song_stands_on_the_card(kind: str, make: Maker, true_stems: bool, tmp_path: Path) -> None:
    expected = make(tmp_path / kind)
    rows, told, text = recorded(kind, str(tmp_path / kind), tmp_path)
    assert {bool(row.vocal_uri and row.accompaniment_uri) for row in rows} == {true_stems}
    assert len(rows) == sum(expected.values())
    for licence, songs in expected.items():
        assert f"{songs} songs: {licence}" in told
        assert f"| {licence} | {songs} |" in text


def test_songs_below_a_prefix_are_of_their_bucket_and_of_no_stated_licence(s3: str, tmp_path: Path) -> None:
    import s3fs

    folder(tmp_path / "here")
    place = f"{s3}/data-recipes"
    for path in (tmp_path / "here").rglob("*.flac"):
        s3fs.S3FileSystem().put_file(str(path), f"{place}/{path.relative_to(tmp_path / 'here')}")
    rows, told, text = recorded("prefix", place, tmp_path)
    assert sorted(uri for row in rows for uri in row.uris) == [f"{place}/a.flac", f"{place}/album/b.flac"]
    assert "2 songs: not stated" in told
    assert "| not stated | 2 |" in text
    assert f"| {s3} | 2 |" in text


def recorded(kind: str, place: str, tmp_path: Path) -> tuple[list[CatalogRow], str, str]:
    """The catalogue of a collection, what the command said of it, and the card; every song can be read."""
    manifest, root, recipe = tmp_path / "manifest.csv", tmp_path / "root", load_recipe("demo")
    told = CliRunner().invoke(commands, ["library", kind, place, "--out", str(manifest)])
    assert told.exit_code == 0, told.output
    Catalog(root).add(scan_library(str(manifest)), recipe.library.batch_size, lambda done, total: None)
    rows = list(Catalog(root).rows())
    assert {row.error for row in rows} == {""}
    context = Context(root, recipe, stage_keys(recipe))
    return rows, told.output, card(context, funnel(context), {})


def test_every_kind_of_collection_is_shown() -> None:
    shown = {mark[0] for mark in test_the_licence_of_every_song_stands_on_the_card.pytestmark[0].args[1]}
    assert shown | {"prefix"} == set(READERS)
