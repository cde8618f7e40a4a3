"""No space, no right to write, a clock put back, two builds at once, an edited recipe: a clear word, and no damage."""

import json
import re
import subprocess
import sys
from typing import Any

import pytest
from kills import HERE, environment, fast_folder

pytestmark = pytest.mark.crash
Told = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def told() -> Told:
    """What every fault did, by its name."""
    with fast_folder() as folder:
        command = [sys.executable, str(HERE / "faults.py"), str(folder)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    found: Told = {}
    for line in done.stdout.splitlines():
        one = json.loads(line)
        found.setdefault(one["fault"], []).append(one)
    return found


@pytest.fixture
def whole(told: Told) -> dict[str, Any]:
    """What an undisturbed build leaves."""
    return told["none"][0]["outcome"]


def dataset(outcome: dict[str, Any]) -> dict[str, str]:
    return {name: digest for name, digest in outcome["files"].items() if name.startswith("datasets")}


def test_no_space_is_said_and_with_space_the_build_goes_on(told: Told, whole: dict[str, Any]) -> None:
    assert whole["wrong"] == []
    assert len(told["file limit"]) > 3
    assert [one["said"] for one in told["file limit"] if one["size"] < 10_000].count("") == 0
    assert {one["said"].partition(":")[0] for one in told["file limit"]} <= {"", "OSError", "SongsFailedError"}
    for words in (one["said"] for one in told["file limit"] if one["said"].startswith("OSError")):
        assert re.search(r"File too large; raise the limit on file sizes .*: '/.*/limit-\d+/", words)
    assert [one["outcome"] for one in told["file limit"]] == [whole] * len(told["file limit"])


def test_full_disk_is_said_and_with_space_the_build_goes_on(told: Told, whole: dict[str, Any]) -> None:
    skip_where_nothing_can_be_mounted(told)
    said = [one["said"] for one in told["full disk"]]
    assert any(said)
    for words in filter(None, said):
        assert words.startswith("DiskError: /")
        assert "No space left on device; free some space" in words
    assert [one["outcome"] for one in told["full disk"]] == [whole] * len(said)


def test_read_only_root_is_said_before_any_work(told: Told) -> None:
    skip_where_nothing_can_be_mounted(told)
    assert len(told["read-only"]) == 2 * len(told["full disk"])
    for one in told["read-only"]:
        assert one["said"].startswith("DiskError: /")
        assert "can't be written: Read-only file system" in one["said"]


def skip_where_nothing_can_be_mounted(told: Told) -> None:
    for one in told["full disk"]:
        if reason := one.get("skipped"):
            pytest.skip(f"no file system can be mounted here: {reason}")


def test_nothing_depends_on_the_clock(told: Told, whole: dict[str, Any]) -> None:
    assert [one["outcome"] for one in told["clock"]] == [whole]


def test_two_builds_at_once_both_end_with_the_same(told: Told, whole: dict[str, Any]) -> None:
    for one in told["two at once"]:
        assert one["said"] == ["", ""]
        assert one["outcome"] == whole


def test_two_recipes_at_once_leave_one_dataset_or_a_clear_word(told: Told, whole: dict[str, Any]) -> None:
    (one,) = told["two recipes at once"]
    for words in filter(None, one["said"]):
        assert "another build of this dataset" in words
    assert one["outcome"]["wrong"] == []
    assert dataset(one["outcome"]) == dataset(whole)


def test_killed_build_that_goes_on_with_an_edited_recipe_redoes_only_what_depends_on_it(told: Told) -> None:
    for one in told["edited"]:
        assert one["killed"]
        depend = [name for name in one["again"] if name in ("TokenizationWorker", "CopyTokenizationWorker")]
        assert len(one["again"]) - len(depend) <= 4  # songs: one part of a batch, which the kill took
        assert one["dataset"] == dataset(told["none, changed"][0]["outcome"])
    last = told["edited"][-1]
    assert {"TokenizationWorker", "CopyTokenizationWorker"} <= set(last["before"])
    assert set(last["again"]) == {"TokenizationWorker", "CopyTokenizationWorker"}
