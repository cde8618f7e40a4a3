"""A folder that is listed seldom: whatever is added, and however coarse the file system's clock, nothing is missed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.files import place
from pipeline.records.folder import SETTLED_SECONDS, Folder

EARLIER = 10**10  # ns


class Steady:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Steady:
    return Steady()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """One that last changed 10 s ago, by its own clock."""
    (tmp_path / "a").touch()
    changed_at(tmp_path, tmp_path.stat().st_mtime_ns - EARLIER)
    return tmp_path


def changed_at(directory: Path, moment: int) -> None:
    os.utime(directory, ns=(moment, moment))


def names(folder: Folder) -> list[str]:
    return [entry.name for entry in folder.entries()]


def settle(folder: Folder, clock: Steady) -> None:
    folder.entries()
    clock.now += SETTLED_SECONDS
    folder.entries()


def test_an_unchanged_folder_is_trusted_once_its_change_is_old(directory: Path, clock: Steady) -> None:
    folder = Folder(directory, clock)
    assert not folder.still()
    folder.entries()
    assert not folder.still()  # its change was seen just now: another may share its tick
    clock.now += SETTLED_SECONDS
    assert not folder.still()  # that listing was as early
    assert names(folder) == ["a"]
    assert folder.still()


def test_a_name_that_comes_goes_or_is_replaced_is_noticed(directory: Path, clock: Steady) -> None:
    folder = Folder(directory, clock)
    changes = [
        (directory / "b").touch,
        (directory / "a").unlink,
        lambda: (directory / "b").rename(directory / "c"),
        lambda: (directory / "folder").mkdir(),
    ]
    for change in changes:
        settle(folder, clock)
        assert folder.still()
        change()
        assert not folder.still()
        changed_at(directory, directory.stat().st_mtime_ns - EARLIER)


def test_a_name_in_the_tick_of_the_listing_is_not_missed(directory: Path, clock: Steady) -> None:
    folder, tick = Folder(directory, clock), directory.stat().st_mtime_ns
    assert names(folder) == ["a"]
    (directory / "b").touch()
    changed_at(directory, tick)  # as a coarse clock would have it
    clock.now += SETTLED_SECONDS / 2
    assert not folder.still()
    assert names(folder) == ["a", "b"]


def test_no_folder_and_another_one_in_its_place_are_noticed(tmp_path: Path, clock: Steady) -> None:
    folder = Folder(tmp_path / "later", clock)
    settle(folder, clock)
    assert not folder.still()
    (tmp_path / "later").mkdir()
    settle(folder, clock)
    assert folder.still()
    (tmp_path / "later").rename(tmp_path / "gone")
    (tmp_path / "later").mkdir()
    assert not folder.still()


def test_an_object_store_is_listed_every_time(clock: Steady) -> None:
    folder = Folder(place("memory://folder-test"), clock)
    settle(folder, clock)
    assert not folder.still()


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return iter(range(10**6))


@settings(deadline=None, max_examples=40)
@given(
    steps=st.lists(st.one_of(st.just("add"), st.just("look"), st.floats(0.0, 2 * SETTLED_SECONDS)), max_size=30),
    tick=st.sampled_from([0.004, 1.0, 2.0]),
)
def test_what_is_held_is_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, numbers: Iterator[int], steps: list[str | float], tick: float
) -> None:
    """A file system whose clock has ticks of up to 2 s, and writers and looks at any moments of them."""
    directory, clock = tmp_path_factory.mktemp("folder"), Steady()
    folder, held = Folder(directory, clock), []
    changed_at(directory, int(clock.now // tick * tick * 1e9))
    for step in steps:
        if isinstance(step, float):
            clock.now += step
        elif step == "add":
            (directory / f"{next(numbers)}").touch()
            changed_at(directory, int(clock.now // tick * tick * 1e9))
        else:
            held = held if folder.still() else names(folder)
            assert held == sorted(os.listdir(directory))
