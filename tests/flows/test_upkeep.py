"""`backline verify`, `gc` and `forget` on a small root."""

import os
from pathlib import Path

import pytest
from making_samples import make_sample
from typer.testing import CliRunner

from flows.cli.main import commands
from pipeline.audio import Probe
from pipeline.records.catalog import Catalog
from pipeline.records.library import Source
from pipeline.records.sharding import write_manifest, write_shard


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root, song = tmp_path / "root", tmp_path / "song.wav"
    song.write_bytes(b"song")
    catalog = Catalog(root, lambda uri: Probe(1.0, 44_100, 1))
    catalog.add([Source(str(song))])
    ids = [catalog.read(0)[0].track_id, "f" * 32]
    dataset = root / "datasets" / "demo"
    listed = write_shard(dataset, "train-stage1", 0, [make_sample(f"{track}-orig") for track in sorted(ids)], "c")
    write_manifest(dataset, "demo", "c", [listed], {})
    return root


def told(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(commands, [*words])
    assert result.exit_code == code, result.output
    return result.output


def test_gc_says_what_goes_and_takes_the_old_alone(root: Path) -> None:
    old, young = (root / "datasets" / "demo" / f".attempt-{age}-val-000000.tar" for age in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"torn")
    os.utime(old, (0, 0))
    assert "1 leftovers, 0.0 MB, found" in told("gc", str(root), "--dry-run")
    assert "leftover: " in told("verify", str(root), code=1)
    said = told("gc", str(root))
    assert ".attempt-old" in said
    assert "a file that its writer did not finish" in said
    assert (old.exists(), young.exists()) == (False, True)
    assert "0 leftovers" in told("gc", str(root))


def test_verify_takes_a_root_or_one_dataset(root: Path) -> None:
    assert "every recorded file is whole" in told("verify", str(root))
    dataset = root / "datasets" / "demo"
    assert "every listed shard is whole" in told("verify", str(dataset))
    next(dataset.glob("*.tar")).write_bytes(b"")
    for place in (root, dataset):
        assert "bytes: " in told("verify", str(place), code=1)


def test_forget_names_what_went_and_leaves_a_whole_root(root: Path, tmp_path: Path) -> None:
    said = told("forget", str(tmp_path / "song.wav"), "--root", str(root), "--reason", "contract ended")
    assert "0 ledger rows, 0 files, 1 shards" in said
    assert "whole" in told("verify", str(root))
    assert "contract ended" in (root / "datasets" / "demo" / "manifest.json").read_text()
