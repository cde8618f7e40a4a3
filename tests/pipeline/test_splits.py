from collections import Counter
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.catalog import CatalogRow
from pipeline.records.splits import SplitConfig, SplitError, SplitRule, fix_splits, read_splits


def song(number: int, artist: str = "", split: str = "", error: str = "") -> CatalogRow:
    track_id = f"{number:032x}"
    return CatalogRow(track_id, (f"/{number}",), "", 0, 0.0, 0, 0, split, artist, "", "", "", "", error)


def count(rule: SplitRule, songs: list[CatalogRow]) -> Counter[str]:
    return Counter(rule.split_of(row) for row in songs)


@settings(deadline=None, max_examples=30)
@given(
    total=st.integers(10, 200),
    seed=st.integers(0, 5),
    test=st.floats(0, 0.3),
    val=st.floats(0, 0.3),
    min_test=st.integers(0, 3),
    min_val=st.integers(0, 3),
)
def test_each_split_gets_exactly_what_was_asked(tmp_path_factory, total, seed, test, val, min_test, min_val):
    config = SplitConfig(seed=seed, val_fraction=val, test_fraction=test, min_val=min_val, min_test=min_test)
    songs = [song(number) for number in range(total)]
    found = count(fix_splits(tmp_path_factory.mktemp("root"), config, songs), songs)
    for split, fraction, least in (("test", test, min_test), ("val", val, min_val)):
        assert found[split] == max(least, ceil(fraction * total))


def test_new_songs_move_no_old_one_and_keep_the_shares(tmp_path):
    config = SplitConfig(test_fraction=0.25, val_fraction=0.1)
    first, later = [song(number) for number in range(200)], [song(number) for number in range(2000)]
    rule = fix_splits(tmp_path, config, first)
    before = {row.track_id: rule.split_of(row) for row in first}
    again = fix_splits(tmp_path, config, later)
    assert again == rule
    assert {row.track_id: again.split_of(row) for row in first} == before
    shares = count(again, later)
    assert shares["test"] / 2000 == pytest.approx(0.25, abs=0.08)  # chosen on 200 songs: 2.6 standard deviations
    assert shares["val"] / 2000 == pytest.approx(0.1, abs=0.06)


def test_order_does_not_matter_and_the_seed_does(tmp_path):
    songs = [song(number) for number in range(50)]
    one = fix_splits(tmp_path / "1", SplitConfig(test_fraction=0.2), songs)
    two = fix_splits(tmp_path / "2", SplitConfig(test_fraction=0.2), songs[::-1])
    other = fix_splits(tmp_path / "3", SplitConfig(test_fraction=0.2, seed=1), songs)
    assert one == two
    assert [one.split_of(row) for row in songs] != [other.split_of(row) for row in songs]


def test_an_artist_is_never_torn_apart(tmp_path):
    songs = [song(number, artist=f"artist {number % 10}") for number in range(100)]
    rule = fix_splits(tmp_path, SplitConfig(test_fraction=0.15, val_fraction=0.05), songs)
    homes = {(row.artist, rule.split_of(row)) for row in songs}
    assert len(homes) == 10
    assert count(rule, songs) == {"test": 20, "val": 10, "train": 70}


def test_the_manifest_comes_first_and_counts(tmp_path):
    songs = [song(0, split="test"), song(1, split="test"), song(2, split="val"), *(song(n) for n in range(3, 20))]
    rule = fix_splits(tmp_path, SplitConfig(test_fraction=0, val_fraction=0, min_test=2, min_val=2), songs)
    assert [rule.split_of(row) for row in songs[:3]] == ["test", "test", "val"]
    assert count(rule, songs) == {"test": 2, "val": 2, "train": 16}


def test_songs_that_can_not_be_used_do_not_count(tmp_path):
    songs = [*(song(number, error="missing") for number in range(50)), *(song(number) for number in range(50, 60))]
    rule = fix_splits(tmp_path, SplitConfig(test_fraction=0.1, val_fraction=0.1), songs)
    assert count(rule, songs[50:]) == {"test": 1, "val": 1, "train": 8}


@pytest.mark.parametrize(
    "songs",
    [[], [song(0)], [song(0), song(1)], [song(number, artist="one") for number in range(50)], [song(0, split="train")]],
)
def test_too_few_songs_are_an_error_before_anything_is_fixed(tmp_path, songs):
    with pytest.raises(SplitError, match=r"add songs.*another root with a manifest"):
        fix_splits(tmp_path, SplitConfig(), songs)
    with pytest.raises(SplitError, match="no build has fixed"):
        read_splits(tmp_path)
    assert not (tmp_path / "catalog" / "splits.json").exists()
    fix_splits(tmp_path, SplitConfig(), [song(number) for number in range(3)])


def test_the_manifest_alone_can_fill_all_splits(tmp_path: Path):
    songs = [song(0, split="train"), song(1, split="val"), song(2, split="test")]
    assert count(fix_splits(tmp_path, SplitConfig(), songs), songs) == {"train": 1, "val": 1, "test": 1}


def test_a_fixed_rule_is_not_changed_in_silence(tmp_path):
    songs = [song(number) for number in range(10)]
    fix_splits(tmp_path, SplitConfig(), songs)
    with pytest.raises(SplitError, match="another root"):
        fix_splits(tmp_path, SplitConfig(seed=1), songs)
    assert read_splits(tmp_path) == fix_splits(tmp_path, SplitConfig(), songs)


def test_a_manifest_that_places_every_song_is_not_asked_for_more(tmp_path):
    songs = [song(0, split="test"), song(1, split="val"), *(song(n, split="train") for n in range(2, 9))]
    rule = fix_splits(tmp_path, SplitConfig(test_fraction=0.25, val_fraction=0.1), songs)
    assert count(rule, songs) == {"test": 1, "val": 1, "train": 7}
