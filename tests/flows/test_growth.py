"""A library has a life: songs are added, and songs are taken out; neither touches what is there of the others."""

from pathlib import Path

import pytest
from toy_engine import build

from flows.recipe import load_recipe
from flows.shards import shard_batch
from flows.stages.context import Context
from flows.stages.graph import stage_keys
from pipeline.audio import Probe
from pipeline.records import files
from pipeline.records.catalog import Catalog
from pipeline.records.files import Place
from pipeline.records.forget import forget
from pipeline.records.library import Source
from pipeline.records.sharding import read_manifest, write_manifest
from pipeline.records.splits import SplitConfig, fix_splits
from pipeline.records.verify import verify_root

DATASET = "demo"


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return tmp_path / "root"
    return files.place(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def grow(root: Place, library: Path, *names: str) -> None:
    """Add songs to the library and build what is new, batches of two songs."""
    for name in names:
        (library / name).write_text(name)
    sources = [Source(str(path), split="train") for path in sorted(library.iterdir())]
    catalog = Catalog(root, lambda uri: Probe(9.0, 48_000, 2))
    catalog.add(sources, batch_size=2)
    rows = [row for batch in catalog.batches() for row in catalog.read(batch)]
    fix_splits(root, SplitConfig(min_val=0, min_test=0, val_fraction=0, test_fraction=0), rows)
    recipe = load_recipe("demo")
    context = Context(root, recipe, stage_keys(recipe))
    directory = root / "datasets" / DATASET
    for batch in catalog.batches():
        build(context, batch=batch)
    sidecars = [s for batch in catalog.batches() for s in shard_batch(context, batch, directory).sidecars]
    write_manifest(directory, DATASET, "c0", sidecars, context.keys)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    folder.mkdir()
    return folder


def contents(root: Place) -> dict[str, tuple[str, bytes]]:
    """Every file but the manifest: its version, which tells a rewriting of the same bytes too, and its bytes."""
    found = [entry for entry in files.tree(root) if not entry.name.endswith("manifest.json")]
    return {entry.name: (entry.version, (root / entry.name).read_bytes()) for entry in found}


def test_songs_that_are_added_make_new_batches_and_shards_and_touch_no_old_byte(root: Place, library: Path) -> None:
    grow(root, library, "a", "b", "c")
    before = contents(root)
    grow(root, library, "d", "e")
    after = contents(root)
    assert {name: after[name] for name in before} == before
    assert Catalog(root).batches() == [0, 1, 2]
    assert {shard.number for shard in read_manifest(root / "datasets" / DATASET).shards} == {0, 1, 2}
    assert verify_root(root) == []


def test_a_build_after_a_song_was_forgotten_finds_its_shards(root: Place, library: Path) -> None:
    grow(root, library, "a", "b", "c")
    gone = Catalog(root).read(0)[0].track_id
    forget(root, gone, "contract ended")
    dataset = root / "datasets" / DATASET
    listed = read_manifest(dataset).shards
    grow(root, library)
    assert [shard.file for shard in read_manifest(dataset).shards] == [shard.file for shard in listed]
    assert not any(gone in entry.name for entry in files.tree(root))
    assert verify_root(root) == []
    before = contents(root)
    grow(root, library)
    assert contents(root) == before
