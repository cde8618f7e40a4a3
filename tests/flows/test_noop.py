"""Rehearsals: stand-ins make a whole dataset, the same each time, under keys that no real build has."""

from dataclasses import replace
from pathlib import Path

import pytest

from flows.bench.noop import DetectionWorker
from flows.bench.tiny import synthetic_rows, write_library
from flows.engine.attempt import Item, attempt
from flows.engine.engine import OnRow
from flows.engine.stems import run_batch_with_stems
from flows.recipe import load_recipe
from flows.shards import dataset_directory, shard_batch
from flows.stages.context import Context
from flows.stages.graph import NODES, stage_keys, worker_of
from pipeline.errors import BackendUnavailable
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.ledger import Ledger, Row
from pipeline.records.library import scan_library
from pipeline.records.sharding import read_shard
from pipeline.records.splits import fix_splits

SONGS = 60


class Here:
    """An engine in this process."""

    def run(self, worker: str, context: Context, items: list[Item], on_row: OnRow) -> list[Row]:
        rows = [attempt(worker, context, item) for item in items]
        for row in rows:
            on_row(row)
        return rows


class Silent:
    def start(self, total: int) -> None: ...

    def add(self, row: Row) -> None: ...


def rehearse(folder: Path, *overrides: str) -> Context:
    """A library, catalogued, and every stage over its batch."""
    recipe = load_recipe("demo", ["rehearsal={}", "augmentation.copies.share=1.0", *overrides])
    context = Context(folder / "root", recipe, stage_keys(recipe))
    catalog = Catalog(context.root)
    catalog.add(scan_library(str(write_library(folder / "library", SONGS))))
    fix_splits(context.root, recipe.splits, catalog.read(0))
    for stage in NODES:
        run_batch_with_stems(stage, context, 0, Here(), False, Silent())  # type: ignore[arg-type]
    return context


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return rehearse(tmp_path_factory.mktemp("rehearsal"))


def row(track_id: str = "ab" * 16) -> CatalogRow:
    return replace(next(synthetic_rows(1)), track_id=track_id)


def test_a_rehearsal_fills_every_shard_set_and_keeps_the_contract(rehearsed: Context) -> None:
    directory = dataset_directory(rehearsed.root, rehearsed.recipe.name)
    sidecars = shard_batch(rehearsed, 0, directory).sidecars
    samples = {s.split: list(read_shard(directory / s.file, s)) for s in sidecars}
    assert set(samples) == {"train-stage1", "train-stage2", "val", "test"}
    assert {sample.info.augmentation == "orig" for sample in samples["train-stage2"]} == {True, False}
    assert directory.name == "rehearsal-demo"


def test_some_songs_are_rejected_and_some_quarantined(tmp_path: Path) -> None:
    context = rehearse(tmp_path, "rehearsal.results={rejected: 0.2, quarantined: 0.2}")
    told = {s: Ledger(context.root).rows(s, context.keys[s], 0).values() for s in ("detection", "annotation")}
    assert 2 <= sum(r.reason == "speech" for r in told["detection"]) <= 25
    assert 2 <= sum(r.status == "quarantined" for r in told["annotation"]) <= 25


def test_the_same_library_gives_the_same_bytes(rehearsed: Context, tmp_path: Path) -> None:
    again = rehearse(tmp_path, "rehearsal.sleep=0.0001", "build.part_seconds=0")
    assert again.keys == rehearsed.keys
    track = Catalog(again.root).read(0)[0]
    assert track.track_id == Catalog(rehearsed.root).read(0)[0].track_id
    for stage in NODES:
        mine, theirs = (Ledger(c.root).rows(stage, c.keys[stage], 0) for c in (again, rehearsed))
        assert {k: (r.values, r.artefacts) for k, r in mine.items()} == {
            k: (r.values, r.artefacts) for k, r in theirs.items()
        }


def test_no_key_of_a_rehearsal_is_a_real_builds() -> None:
    real, rehearsal = (stage_keys(load_recipe("demo", o)) for o in ([], ["rehearsal={}"]))
    assert not set(real.values()) & set(rehearsal.values())


def test_faults_and_sleeps_change_no_key() -> None:
    plain = stage_keys(load_recipe("demo", ["rehearsal={}"]))
    assert stage_keys(load_recipe("demo", ["rehearsal={sleep: 1, faults: {fail: ['*:*']}}"])) == plain
    assert stage_keys(load_recipe("demo", ["rehearsal.results.seed=1"])) != plain


def test_only_a_recipe_that_says_so_meets_a_stand_in() -> None:
    recipe = load_recipe("demo")
    assert not any(worker_of(stage, recipe).startswith("flows.bench") for stage in NODES)
    with pytest.raises(BackendUnavailable, match="rehearsal"):
        DetectionWorker(Context(Path("nowhere"), recipe))


@pytest.mark.parametrize("stage", list(NODES))
def test_every_stage_has_a_stand_in(stage: str) -> None:
    import flows.bench.noop as noop

    name = worker_of(stage, load_recipe("demo", ["rehearsal={}"])).partition(":")[2]
    assert getattr(noop, name).stage == stage


def test_faults_strike_the_song_they_are_meant_for(tmp_path: Path) -> None:
    context = faulty(tmp_path, "{fail: ['detection:ab'], bad: ['*:cd']}")
    ends = {start: attempt(worker(context), context, Item(row(start * 16), {})).status for start in ("ab", "cd", "ef")}
    assert ends == {"ab": "failed", "cd": "quarantined", "ef": ends["ef"]}
    assert ends["ef"] in ("ok", "rejected")


def test_a_fault_that_leaves_a_mark_strikes_once(tmp_path: Path) -> None:
    context = faulty(tmp_path, "{fail: ['*:*']}", f"rehearsal.once={tmp_path}")
    assert [attempt(worker(context), context, Item(row(), {})).status == "failed" for _ in range(2)] == [True, False]


def test_a_fault_that_stops_the_run_is_raised(tmp_path: Path) -> None:
    context = faulty(tmp_path, "{unavailable: ['*:*']}")
    with pytest.raises(BackendUnavailable, match="asked for it"):
        attempt(worker(context), context, Item(row(), {}))


@pytest.mark.parametrize("target", ["detection", "detection:xyz", ":ab", "detection:ab:cd"])
def test_a_target_that_hits_nothing_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="faults"):
        load_recipe("demo", [f"rehearsal={{faults: {{fail: ['{target}']}}}}"])


def test_tiny_songs_are_all_different_and_do_not_depend_on_their_number(tmp_path: Path) -> None:
    few, many = (scan_library(str(write_library(tmp_path / str(n), n, seed=3))) for n in (3, 5))
    contents = [Path(source.uri).read_bytes() for source in many]
    assert len(set(contents)) == 5
    assert [Path(source.uri).read_bytes() for source in few] == contents[:3]


def test_synthetic_rows_are_songs_of_many_artists() -> None:
    rows = list(synthetic_rows(100))
    assert len({r.track_id for r in rows}) == 100
    assert 4 <= len({r.artist for r in rows}) <= 100 // 8
    assert [r.track_id for r in synthetic_rows(10)] == [r.track_id for r in rows[:10]]


def faulty(root: Path, faults: str, *overrides: str) -> Context:
    recipe = load_recipe("demo", [f"rehearsal={{faults: {faults}}}", *overrides])
    return Context(root, recipe, stage_keys(recipe))


def worker(context: Context) -> str:
    return worker_of("detection", context.recipe)
