"""Files of one recording are one group in one split, whatever the order of runs, and a fixed split never moves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stage_rows import QUIET, song_rows

from flows.data_card import kin
from flows.grouping import STAGE, group_songs
from flows.recipe import load_recipe
from flows.stages.context import Context
from flows.stages.graph import NODES, gets, stage_keys
from flows.stages.tokens import SelectionWorker
from pipeline.audio import Probe
from pipeline.records import files
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.files import Place
from pipeline.records.forget import forget
from pipeline.records.groups import Groups, read_groups
from pipeline.records.ledger import Ledger, Row
from pipeline.records.library import Source
from pipeline.records.splits import SplitError, read_splits

NO_MINIMUM = ("splits.min_val=0", "splits.min_test=0", "splits.val_fraction=0.2", "splits.test_fraction=0.2")
BATCH = 3


def words(recording: str) -> NDArray[np.uint32]:
    """Of a recording; of ``a+b`` both, one after the other."""
    parts = recording.split("+")
    return np.concatenate([np.random.default_rng(list(p.encode())).integers(1, 2**32, 200, np.uint32) for p in parts])


@dataclass
class Library:
    """Songs whose file says ``<recording> <file number>``: what a file sounds like is its recording."""

    folder: Path
    root: Place
    overrides: tuple[str, ...] = NO_MINIMUM
    sources: list[Source] = field(default_factory=list)

    @property
    def context(self) -> Context:
        recipe = load_recipe("demo", self.overrides)
        return Context(self.root, recipe, stage_keys(recipe))

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.root, lambda uri: Probe(9.0, 48_000, 2))

    def add(self, *recordings: str, split: str = "", artist: str = "") -> None:
        for recording in recordings:
            path = self.folder / f"{len(self.sources):03d}"
            path.write_text(f"{recording} {len(self.sources)}")
            self.sources.append(Source(str(path), split=split, artist=artist))

    def catalogue(self) -> int:
        catalog = self.catalog
        catalog.add(self.sources, BATCH)
        return len(catalog.batches())

    def heard(self, failed: str = "") -> int:
        """Fingerprints of what lacks them; those of the recording `failed` do not come out. The number of batches."""
        context, batches = self.context, self.catalogue()
        ledger, key, store = Ledger(self.root), context.keys[STAGE], context.store(STAGE)
        for batch in range(batches):
            rows, done = [], ledger.rows(STAGE, key, batch)
            for track in self.catalog.read(batch):
                if track.track_id in done and done[track.track_id].settled:
                    continue
                recording = Path(track.uri).read_text().split()[0]
                if recording == failed:
                    rows.append(Row(track.track_id, "failed", "RuntimeError"))
                else:
                    kept = store.put_arrays(track.track_id, "words", {"words": words(recording)})
                    rows.append(Row(track.track_id, "ok", values="{}", artefacts=(kept,)))
            ledger.commit(STAGE, key, batch, rows)
        return batches

    def grouped(self, failed: str = "") -> Groups:
        return group_songs(self.context, self.heard(failed))

    def tracks(self) -> dict[str, CatalogRow]:
        """By file number."""
        catalog = self.catalog
        rows = [row for batch in catalog.batches() for row in catalog.read(batch)]
        return {Path(row.uri).name: row for row in rows}

    def split(self, number: int) -> str:
        return self.context.split(self.tracks()[f"{number:03d}"])

    def left_out(self, number: int) -> str:
        return self.context.left_out(self.tracks()[f"{number:03d}"])


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return made(tmp_path)


def made(folder: Path, root: str = "root") -> Library:
    (folder / "songs").mkdir(exist_ok=True)
    return Library(folder / "songs", folder / root)


def contents(root: Place) -> Mapping[str, tuple[str, bytes]]:
    return {entry.name: (entry.version, (root / entry.name).read_bytes()) for entry in files.tree(root)}


def test_other_files_of_a_recording_follow_the_first_one(library: Library) -> None:
    library.add(*"abcd")
    library.add("b", "e", "b", "a", artist="somebody else")
    groups = library.grouped()
    ids = {name: row.track_id for name, row in library.tracks().items()}
    leaders = {member.track_id: member.leader for member in groups.members.values()}
    assert leaders == {ids["004"]: ids["001"], ids["006"]: ids["001"], ids["007"]: ids["000"]}
    assert library.split(4) == library.split(6) == library.split(1)
    assert library.split(7) == library.split(0)
    assert [library.left_out(n) for n in range(8)] == ["", "", "", "", "duplicate", "", "duplicate", "duplicate"]
    assert kin(library.context) == (2, 3, 0)


def test_all_copies_stay_where_the_recipe_keeps_them(library: Library) -> None:
    library.add("a", "b", "a", *"xyz")
    library.overrides += ("selection.duplicates=keep",)
    library.grouped()
    assert [library.left_out(n) for n in range(6)] == [""] * 6
    assert library.split(2) == library.split(0)


def test_a_song_that_follows_fills_no_split(library: Library) -> None:
    library.overrides = ("splits.min_val=1", "splits.min_test=1")
    library.add("a", *"aaaaaaa")
    with pytest.raises(SplitError, match="1 songs of 1 artists"):
        library.grouped()
    library.add("b", "c")
    library.grouped()
    assert sorted(library.split(n) for n in (0, 8, 9)) == ["test", "train", "val"]


def test_an_old_song_never_moves_and_no_old_byte_is_touched(library: Library) -> None:
    library.add(*"abcdefgh")
    library.grouped()
    before, splits = contents(library.root), [library.split(n) for n in range(8)]
    assert len(set(splits)) > 1
    library.add(*"hgfedcba", artist="one artist")
    library.grouped()
    after = contents(library.root)
    assert {name: after[name] for name in before} == before
    assert [library.split(n) for n in range(8)] == splits
    assert [library.split(n) for n in range(8, 16)] == splits[::-1]
    library.grouped()
    assert contents(library.root) == after


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(recordings=st.lists(st.sampled_from([*"abcd", "a+b", "c+d"]), min_size=2, max_size=9), cut=st.integers(1, 8))
def test_in_how_many_runs_songs_came_changes_no_group(
    tmp_path_factory: pytest.TempPathFactory, recordings: list[str], cut: int
) -> None:
    """Batches are the same in both: the first run of the second library ends where a batch does."""
    found = []
    for first in (len(recordings), cut // BATCH * BATCH):
        library = made(tmp_path_factory.mktemp("library"))
        library.overrides = ("splits.min_val=0", "splits.min_test=0", "splits.val_fraction=0", "splits.test_fraction=0")
        if 0 < first < len(recordings):
            library.add(*recordings[:first])
            library.grouped()
            library.add(*recordings[first:])
        else:
            library.add(*recordings)
        found.append(library.grouped().members)
    assert found[0] == found[1]


def test_a_copy_of_songs_in_two_splits_is_left_out(library: Library) -> None:
    library.add("a", "c", split="train")
    library.add("b", split="test")
    library.add("a+b", "a+c")
    library.grouped()
    assert library.left_out(3) == "split_conflict"
    assert library.left_out(4) == "duplicate"
    assert [library.split(n) for n in range(3)] == ["train", "train", "test"]
    library.overrides += ("selection.duplicates=keep",)
    assert [library.left_out(3), library.left_out(4)] == ["split_conflict", ""]
    assert kin(library.context) == (1, 2, 1)


def test_a_manifest_that_puts_a_copy_into_another_split_leaves_it_out(library: Library) -> None:
    library.add("a", split="train")
    library.add("a", split="test")
    library.add("a", split="train")
    library.add("b", split="test")
    library.grouped()
    assert [library.left_out(n) for n in range(4)] == ["", "split_conflict", "duplicate", ""]


def test_a_song_whose_fingerprint_failed_comes_last(library: Library) -> None:
    library.add("late", "a", "b", split="train")
    library.grouped(failed="late")
    library.add("late", split="train")
    library.add("c", split="train")
    groups = library.grouped()  # the first one's fingerprint came out now: it comes before songs of new batches
    ids = {name: row.track_id for name, row in library.tracks().items()}
    assert groups.members[ids["003"]].leader == ids["000"]
    assert not groups.members[ids["000"]].follows
    assert library.grouped() == groups


def test_songs_without_fingerprints_can_not_be_grouped(library: Library) -> None:
    library.add("a", "b")
    with pytest.raises(SplitError, match="2 songs of batch 0 have no fingerprint yet"):
        group_songs(library.context, library.catalogue())
    assert read_groups(library.root) == Groups()


def test_stand_ins_keep_no_words_and_are_alone(library: Library) -> None:
    library.add("a", "a", "b")
    context, batches = library.context, library.catalogue()
    rows = [Row(track.track_id, "ok", values="{}") for track in library.tracks().values()]
    Ledger(library.root).commit(STAGE, context.keys[STAGE], 0, rows)
    assert group_songs(context, batches).members == {}
    assert read_groups(library.root).covered == 1


def test_a_run_that_was_killed_before_its_commit_is_repeated(library: Library) -> None:
    library.add("a", "b", "a", *"xyz")
    groups = library.grouped()
    (library.root / "catalog" / "groups-00000.parquet").unlink()
    (library.root / "catalog" / "splits.json").unlink()
    library.add("a")
    again = library.grouped()
    assert {k: v for k, v in again.members.items() if k in groups.members} == groups.members
    assert len(again.members) == 2


def test_a_duplicate_is_judged_without_stems(library: Library) -> None:
    library.add("a", "b", "a", *"xyz")
    library.grouped()
    context, tracks = library.context, library.tracks()
    copy, first = tracks["002"], tracks["000"]
    rows = song_rows(QUIET, track_id=copy.track_id)
    wanted = [stage for stage in NODES if gets(NODES[stage], context, copy, rows)]
    assert wanted == ["fingerprint", "detection", "quality", "selection"]
    said = SelectionWorker(context)(copy, {name: rows[name] for name in ("fingerprint", "detection", "quality")})
    assert said.rejected == "duplicate"
    assert first.track_id in said.message
    assert gets(NODES["separation"], context, first, rows)


def test_when_the_first_is_forgotten_the_next_one_leads_in_the_same_split(library: Library) -> None:
    library.add("a", "b", "c", split="test")
    library.add("a", "a", split="")
    library.add(*"xyz", split="train")
    library.grouped()
    tracks, context, ledger = library.tracks(), library.context, Ledger(library.root)
    first, second, third = (tracks[f"{n:03d}"].track_id for n in (0, 3, 4))
    ledger.commit("selection", context.keys["selection"], 1, [Row(second, "rejected", "duplicate")])
    done = forget(library.root, first, "contract ended")
    assert done.copies == (second, third)
    assert ledger.rows("selection", context.keys["selection"], 1) == {}
    assert [library.left_out(3), library.left_out(4)] == ["", "duplicate"]
    assert library.split(3) == library.split(4) == "test"
    here = contents(library.root)
    assert [name for name, (_, data) in here.items() if first.encode() in data] == ["catalog/part-00000.parquet"]
    library.add("a")  # a later copy follows the new leader
    assert library.grouped().members[library.tracks()["008"].track_id].leader == second
    assert forget(library.root, first, "again").copies == ()


def test_when_a_follower_is_forgotten_its_group_stays(library: Library) -> None:
    library.add("a", "b", "a", "a", *"xyz")
    library.grouped()
    tracks = library.tracks()
    gone = tracks["002"].track_id
    assert forget(library.root, gone, "wish").copies == (tracks["000"].track_id, tracks["003"].track_id)
    assert gone not in read_groups(library.root).members
    assert library.left_out(3) == "duplicate"
    assert read_splits(library.root)
