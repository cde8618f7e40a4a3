"""Stems go when nothing hears them again, come back where a changed setting needs them, and change no shard."""

import shutil
from collections import Counter, namedtuple
from pathlib import Path
from typing import cast

import pytest
from toy_engine import Silent, ToyEngine, build

from flows.engine.batch import tracks_of
from flows.engine.engine import Engine
from flows.engine.stems import NoSpaceError, release, run_batch_with_stems
from flows.recipe import load_recipe
from flows.shards import shard_batch
from flows.stages.context import Context, artefact
from flows.stages.graph import NODES, stage_keys
from pipeline.audio import Probe
from pipeline.records.catalog import Catalog
from pipeline.records.ledger import Ledger
from pipeline.records.library import Source
from pipeline.records.splits import SplitConfig, fix_splits
from pipeline.records.verify import verify_root

POLICIES = ("all", "until_tokenized", "none")
SPLITS = {"a": "train", "b": "train", "c": "test"}


def context_of(root: Path, policy: str, *overrides: str) -> Context:
    recipe = load_recipe("demo", [f"build.keep_stems={policy}", "augmentation.copies.share=1.0", *overrides])
    return Context(root, recipe, stage_keys(recipe))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three songs in the catalogue, two to train on and one to test on."""
    root = tmp_path / "root"
    sources = []
    for name, split in SPLITS.items():
        (tmp_path / name).write_text(name)
        sources.append(Source(str(tmp_path / name), split=split))
    catalog = Catalog(root, lambda uri: Probe(9.0, 48_000, 2))
    catalog.add(sources)
    fix_splits(root, SplitConfig(min_val=0, val_fraction=0), catalog.read(0))
    return root


def stems(root: Path) -> Counter[str]:
    """Stem files by stage."""
    return Counter(path.relative_to(root).parts[1].rpartition("-")[0] for path in root.rglob("*.flac"))


@pytest.mark.parametrize(
    ("policy", "kept"),
    [("all", {"separation": 6, "augmentation": 4}), ("until_tokenized", {"separation": 2}), ("none", {})],
)
def test_what_is_kept_follows_the_recipe_and_the_root_is_whole(root: Path, policy: str, kept: dict[str, int]) -> None:
    context = context_of(root, policy)
    worked = build(context)
    assert (worked["separation"], worked["augmentation"], worked["tokenization-copies"]) == (3, 2, 2)
    assert stems(root) == kept
    shard_batch(context, 0, root / "datasets" / "demo")
    assert [problem for problem in verify_root(root) if problem.kind == "artefact"] == []


def test_shards_are_the_same_bytes_whatever_is_kept(root: Path, tmp_path: Path) -> None:
    made = []
    for policy in POLICIES:
        mine = shutil.copytree(root, tmp_path / policy)
        context = context_of(mine, policy)
        build(context)
        made.append(shard_batch(context, 0, mine / "datasets" / "demo").sidecars)
    assert made[0]
    assert made[0] == made[1] == made[2]


def test_a_second_build_makes_no_stem_again(root: Path) -> None:
    context = context_of(root, "none")
    build(context)
    assert build(context).total() == 0
    assert stems(root) == {}


def test_a_changed_codec_makes_the_stems_it_needs_again_and_lets_them_go(root: Path) -> None:
    build(context_of(root, "none"))
    changed = context_of(root, "none", "tokenization.reference_hop_seconds=1.28")
    worked = build(changed)
    assert {name: count for name, count in worked.items() if count} == {
        "separation": 3,
        "augmentation": 2,
        "tokenization": 3,
        "tokenization-copies": 2,
    }
    assert stems(root) == {}


def test_stems_stay_while_a_stage_has_still_to_hear_them(root: Path) -> None:
    context = context_of(root, "none")
    build(context, *[name for name in NODES if name not in ("augmentation", "tokenization-copies")])
    assert release(context, 0) == 1  # the song to test on has no copy
    assert stems(root) == {"separation": 4}


def test_a_build_killed_between_files_and_row_is_finished_by_the_next(root: Path) -> None:
    context = context_of(root, "none")
    build(context, *[name for name in NODES if name != "tokenization-copies"])
    track, rows = next((t, r) for t, r in tracks_of(context, 0) if t.split == "train")
    context.store("separation").remove([artefact(rows["separation"], "vocal")])
    build(context)
    assert stems(root) == {}
    key = context.keys["separation"]
    assert Ledger(root).rows("separation", key, 0)[track.track_id].artefacts == ()


def test_a_lost_stem_is_made_again_where_it_is_heard(root: Path) -> None:
    context = context_of(root, "all")
    build(context, *[name for name in NODES if not name.startswith("tokenization")])
    next(root.rglob("*-vocal-*.flac")).unlink()
    build(context)
    assert stems(root) == {"separation": 6, "augmentation": 4}


def test_a_disk_that_is_too_small_is_told_before_any_work(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 15_000_000))
    context, engine = context_of(root, "all"), ToyEngine(context_of(root, "all"))
    build(context, "detection", "quality")
    with pytest.raises(NoSpaceError, match=r"up to 0.0 GB for the stems of 3 songs.*keep_stems"):
        run_batch_with_stems("separation", context, 0, cast(Engine, engine), False, Silent())
    assert engine.worked.total() == 0
