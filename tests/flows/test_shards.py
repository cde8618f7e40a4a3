"""Shards of a batch follow from the rows in force, and are made again only where those changed."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from stage_rows import QUIET, SAMPLES, song_rows

from flows.funnel import funnel
from flows.recipe import load_recipe
from flows.shards import shard_batch, tracks
from flows.stages.context import Context
from flows.stages.graph import stage_keys
from pipeline.audio import Probe
from pipeline.codec.codec import token_count
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.ledger import Ledger
from pipeline.records.library import Source
from pipeline.records.sharding import read_shard

GATE = "selection.gate.scope=all"


@dataclass(frozen=True)
class Built:
    """A root in which two songs were built: one of train, one of test."""

    root: Path
    context: Context
    songs: list[CatalogRow]

    def under(self, *overrides: str) -> Context:
        recipe = load_recipe("demo", overrides)
        return Context(self.root, recipe, stage_keys(recipe))

    def commit(self, context: Context, song: CatalogRow, stage: str = "stage2", force: bool = False) -> None:
        tokens = token_count(SAMPLES)
        arrays = {
            "vocal": np.zeros((1, tokens), np.uint16),
            "accompaniment": np.ones((1, 1, tokens), np.uint16),
            "reference": np.zeros((1, 1, 4), np.float16),
            "text": np.zeros((1, 4), np.float16),
        }
        kept = context.store("tokenization").put_arrays(song.track_id, "tokens", arrays)
        for name, row in song_rows(QUIET, kept, stage, song.track_id).items():
            Ledger(self.root).commit(name, context.keys[name], 0, [row], force=force)

    def shards(self, context: Context) -> dict[str, str]:
        """Shard set -> the name of its shard."""
        made = shard_batch(context, 0, self.root / "datasets" / "demo")
        return {sidecar.split: sidecar.file for sidecar in made.sidecars}


@pytest.fixture
def built(tmp_path: Path) -> Built:
    sources = []
    for name, split in (("a", "train"), ("b", "test")):
        (tmp_path / name).write_text(name)
        sources.append(Source(str(tmp_path / name), split=split))
    catalog = Catalog(tmp_path, lambda uri: Probe(9.0, 48_000, 2))
    catalog.add(sources)
    made = Built(tmp_path, Context(tmp_path, load_recipe("demo")), catalog.read(0))
    return replace(made, context=made.under())


@pytest.fixture(autouse=True)
def splits(built: Built) -> None:
    from pipeline.records.splits import SplitConfig, fix_splits

    fix_splits(built.root, SplitConfig(min_val=0, val_fraction=0), built.songs)


def test_an_equal_build_reads_no_array_and_writes_no_file(built: Built) -> None:
    for song in built.songs:
        built.commit(built.context, song)
    first = built.shards(built.context)
    assert first.keys() == {"train-stage1", "train-stage2", "test"}
    folder = built.root / "datasets" / "demo"
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    for path in (built.root / "stages").rglob("*.safetensors"):
        path.unlink()
    assert built.shards(built.context) == first
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_changed_verdict_makes_other_shards_of_its_song_alone(built: Built) -> None:
    for song in built.songs:
        built.commit(built.context, song)
    first = built.shards(built.context)
    train = next(song for song in built.songs if song.split == "train")
    built.commit(built.context, train, stage="stage1", force=True)
    second = built.shards(built.context)
    assert second.keys() == {"train-stage1", "test"}
    assert second["test"] == first["test"]
    assert second["train-stage1"] != first["train-stage1"]


def test_a_gate_that_was_lowered_and_put_back_leaves_no_trace(built: Built) -> None:
    low, high = built.under(GATE, "selection.gate.threshold=1.0"), built.under(GATE, "selection.gate.threshold=4.5")
    for song in built.songs:
        built.commit(low, song)
    assert built.shards(low).keys() == {"train-stage1", "train-stage2", "test"}
    assert built.shards(high) == {}
    counted = {count.stage: count.seen for count in funnel(high)}
    assert counted["separation"] == counted["tokenization"] == 0
    assert counted["detection"] == counted["quality"] == 2
    assert {name for _, rows in tracks(high) for name in rows} == {"fingerprint", "detection", "quality"}


def test_a_sample_names_the_backends_it_descends_from(built: Built) -> None:
    train = next(song for song in built.songs if song.split == "train")
    built.commit(built.context, train)
    stray = song_rows(QUIET, track_id=train.track_id)["separation"]
    for name in ("augmentation", "tokenization-copies"):
        Ledger(built.root).commit(name, built.context.keys[name], 0, [replace(stray, status="rejected")])
    folder = built.root / "datasets" / "demo"
    [sidecar, *_] = shard_batch(built.context, 0, folder).sidecars
    [sample] = read_shard(folder / sidecar.file, sidecar)
    assert [record.stage for record in sample.info.backends] == [
        "fingerprint", "detection", "quality", "separation", "artifacts", "structure", "annotation", "selection",
        "tokenization", "conditioning",
    ]  # fmt: skip
