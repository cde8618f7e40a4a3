"""Held-out stems reach the evaluation at their own level and checked, whatever their files hold."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from making_samples import make_sample

from flows.held_out import held_out_items
from pipeline.errors import BadInput
from pipeline.records.files import DamageError
from pipeline.records.ledger import Ledger, Row
from pipeline.records.sharding import write_manifest, write_shard
from pipeline.records.store import Store
from pipeline.types import Audio

TRACK, KEY = "cd" * 16, "0a1b2c3d"
STEMS = {"vocal": 0.5, "accompaniment": 3.0}  # peaks; a file can't hold the second as it is


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path)
    store = Store(ledger.directory("separation", KEY))
    shape = np.sin(np.arange(24_000, dtype=np.float32) / 50)[None]  # half a second
    kept = tuple(store.put_audio(TRACK, name, Audio(shape * peak, 48_000)) for name, peak in STEMS.items())
    ledger.commit("separation", KEY, 0, [Row(TRACK, "ok", artefacts=kept)])
    folder = tmp_path / "datasets" / "demo"
    shard = write_shard(folder, "test", 0, [make_sample(f"{TRACK}-orig", split="test")], "c0")
    write_manifest(folder, "demo", "c0", [shard], {"separation": KEY})
    return folder


def test_short_and_loud_stems_come_as_they_were_kept(dataset: Path) -> None:
    [item] = held_out_items(dataset, "test")
    heard = {"vocal": item.load_vocal(), "accompaniment": item.load_accompaniment()}
    assert {name: float(np.abs(audio.samples).max()) for name, audio in heard.items()} == pytest.approx(STEMS, rel=1e-3)
    assert np.abs(soundfile.read(item.accompaniment)[0]).max() <= 1.0  # what a player gets


def test_a_stem_that_is_not_the_recorded_one_is_damage(dataset: Path) -> None:
    [item] = held_out_items(dataset, "test")
    item.vocal.write_bytes(item.accompaniment.read_bytes())
    with pytest.raises(DamageError, match="sha256"):
        item.load_vocal()


def test_a_dataset_that_was_carried_away_from_its_build_is_named(dataset: Path, tmp_path: Path) -> None:
    away = tmp_path / "away" / "x" / "demo"
    away.parent.mkdir(parents=True)
    dataset.rename(away)
    with pytest.raises(BadInput, match="ROOT/datasets/NAME"):
        held_out_items(away, "test")
