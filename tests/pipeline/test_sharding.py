import json
import os
import random
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making_samples import make_sample, with_info

from pipeline.records import files
from pipeline.records.files import DamageError
from pipeline.records.schema import SPLITS, ContractError, Sample
from pipeline.records.sharding import (
    EmptySplitError,
    ManifestError,
    Sidecar,
    committed_shard,
    read_manifest,
    read_shard,
    remove_unlisted,
    require_splits,
    write_manifest,
    write_shard,
)
from pipeline.records.verify import verify


def some(count: int, first: int = 0) -> list[Sample]:
    return [make_sample(f"{number:032x}-orig", seed=number) for number in range(first, first + count)]


def write(directory: Path, samples: list[Sample], number: int = 0, config: str = "c0") -> Sidecar:
    return write_shard(directory, "train-stage1", number, samples, config)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@settings(deadline=None, max_examples=20)
@given(seeds=st.lists(st.integers(0, 2**64), min_size=1, max_size=4, unique=True))
def test_samples_come_back_in_order_and_bytes_follow_from_them(tmp_path_factory, seeds):
    samples = [make_sample(f"{seed:032x}-orig", seed=seed) for seed in sorted(seeds)]
    first, second = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    sidecar = write(first, samples)
    back = list(read_shard(first / sidecar.file, sidecar))
    assert [sample.to_files() for sample in back] == [sample.to_files() for sample in samples]
    write(second, samples)
    assert contents(first) == contents(second)
    assert len(contents(first)) == 2


def test_no_time_owner_or_mode_of_this_machine_gets_into_a_tar(tmp_path):
    sidecar = write(tmp_path, some(2))
    with tarfile.open(tmp_path / sidecar.file) as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    assert [m.name for m in members] == sorted(m.name for m in members)


def test_a_changed_selection_or_config_makes_another_file_and_changes_no_old_byte(tmp_path):
    write(tmp_path, some(3))
    before = contents(tmp_path)
    for samples, config in ((some(2), "c0"), (some(3), "c1"), ([*some(2), make_sample("f" * 32, seed=9)], "c0")):
        write(tmp_path, samples, config=config)
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == 8


def test_a_committed_shard_is_left_alone(tmp_path):
    first = write(tmp_path, some(2))
    stats = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert write(tmp_path, some(2)) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stats


@pytest.mark.parametrize("torn", [b"", b"half a tar"])
def test_a_tar_without_a_commit_or_damaged_is_written_again(tmp_path, torn):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    sidecar = write(whole, some(2))
    write(killed, some(2))
    (killed / sidecar.file).write_bytes(torn)
    (killed / sidecar.file).with_suffix(".json").unlink()
    write(killed, some(2))
    assert contents(whole) == contents(killed)


def test_what_a_killed_writer_leaves_is_no_shard_and_goes_away_with_age(tmp_path):
    left = tmp_path / ".attempt-0123-train-stage1-000000.tar"
    left.write_bytes(b"torn")
    sidecar = write(tmp_path, some(1))
    assert committed_shard(tmp_path, "train-stage1", 0, "") == sidecar
    write_manifest(tmp_path, "d", "c0", [sidecar], {})
    assert remove_unlisted(tmp_path) == []
    os.utime(left, (0, 0))
    assert remove_unlisted(tmp_path) == [left]


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def failing():
        yield from some(1)
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        write_shard(tmp_path, "train-stage1", 0, failing(), "c0")
    assert list(tmp_path.iterdir()) == []


def test_writers_of_one_shard_at_once_leave_one_shard(tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    sidecar = write(alone, some(3))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: write(shared, some(3)), range(12))) == [sidecar] * 12
    assert contents(shared) == contents(alone)


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(10))
def test_killed_anywhere_and_run_again_the_dataset_is_the_same(tmp_path, seed):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    _write_dataset(alone)
    command = [sys.executable, "-c", f"import test_sharding as t; t._write_dataset(t.Path({str(killed)!r}))"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    writer = subprocess.Popen(command, env=environment)
    while not killed.exists():
        time.sleep(0.001)
    time.sleep(random.Random(seed).uniform(0, 0.15))
    writer.kill()
    writer.wait()
    _write_dataset(killed)
    files.remove_attempts(killed, older_than=0)
    assert contents(killed) == contents(alone)
    assert verify(killed) == []


def _write_dataset(directory: Path) -> None:
    shards = [write(directory, some(8, 8 * number), number) for number in range(10)]
    write_manifest(directory, "d", "c0", shards, {})


@pytest.mark.parametrize(
    ("samples", "error", "words"),
    [
        ([], ValueError, "would be empty"),
        (list(reversed(some(2))), ContractError, "keys of a shard rise"),
        ([*some(1), *some(1)], ContractError, "none comes twice"),
        ([make_sample(split="test")], ContractError, "split 'test' can't go into"),
        ([with_info(make_sample(), tokens=3)], ContractError, "3 tokens"),
    ],
)
def test_samples_that_make_no_shard(tmp_path, samples, error, words):
    with pytest.raises(error, match=words):
        write(tmp_path, samples)
    assert list(tmp_path.iterdir()) == []


def test_a_sidecar_that_says_something_else_is_not_overwritten(tmp_path):
    sidecar = write(tmp_path, some(2))
    path = (tmp_path / sidecar.file).with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"samples": 7}))
    with pytest.raises(DamageError, match="samples=7"):
        write(tmp_path, some(2))


def test_a_shard_is_found_by_what_it_was_made_from(tmp_path):
    def look(inputs: str = "i0", split: str = "train-stage1", number: int = 0) -> Sidecar | None:
        return committed_shard(tmp_path, split, number, inputs)

    assert look() is None
    sidecar = write_shard(tmp_path, "train-stage1", 0, some(2), "c0", "i0")
    assert look() == sidecar
    assert look("i1") is look(split="val") is look(number=1) is None
    tar, commit = tmp_path / sidecar.file, (tmp_path / sidecar.file).with_suffix(".json")
    data = tar.read_bytes()
    tar.write_bytes(data[:-1])
    assert look() is None
    tar.unlink()
    assert look() is None
    tar.write_bytes(data)
    commit.write_text("{")
    assert look() is None


def test_other_inputs_of_the_same_bytes_are_told_in_the_same_sidecar(tmp_path):
    old = write_shard(tmp_path, "train-stage1", 0, some(2), "c0")
    new = write_shard(tmp_path, "train-stage1", 0, some(2), "c0", "i0")
    assert new == replace(old, inputs_sha256="i0")
    assert committed_shard(tmp_path, "train-stage1", 0, "i0") == new
    assert len(contents(tmp_path)) == 2


def test_reading_checks_before_the_first_sample(tmp_path):
    sidecar = write(tmp_path, some(2))
    path = tmp_path / sidecar.file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamageError, match="committed"):
        next(read_shard(path, sidecar))


def test_manifest_comes_back_and_its_bytes_do_not_depend_on_order(tmp_path):
    shards = [write(tmp_path, some(2, first), number) for number, first in enumerate((0, 2))]
    made = write_manifest(tmp_path, "demo", "c0", reversed(shards), {"quality": "0" * 8}, empty_text=[0.5, -1.0])
    assert read_manifest(tmp_path) == made
    assert made.extra == {"empty_text": [0.5, -1.0]}
    before = (tmp_path / "manifest.json").read_bytes()
    write_manifest(tmp_path, "demo", "c0", shards, {"quality": "0" * 8}, empty_text=[0.5, -1.0])
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_manifest_lists_committed_shards_only(tmp_path):
    sidecar = write(tmp_path, some(1))
    (tmp_path / sidecar.file).with_suffix(".json").unlink()
    with pytest.raises(ManifestError, match="not a committed shard"):
        write_manifest(tmp_path, "demo", "c0", [sidecar], {})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "is missing"),
        ("{", "not a manifest"),
        ("{}", "not a manifest"),
        ('{"schema_version": 2, "shards": [{"new": 1}]}', "version 2"),
    ],
)
def test_manifests_that_can_not_be_used(tmp_path, data, words):
    if data is not None:
        (tmp_path / "manifest.json").write_text(data)
    with pytest.raises(ManifestError, match=words):
        read_manifest(tmp_path)


def test_unlisted_shards_are_removed_and_nothing_else(tmp_path):
    listed, old = write(tmp_path, some(2)), write(tmp_path, some(1))
    write_manifest(tmp_path, "demo", "c0", [listed], {})
    (tmp_path / "README.md").write_text("card")
    removed = remove_unlisted(tmp_path)
    assert {path.name for path in removed} == {old.file, old.file.replace(".tar", ".json")}
    assert len(list(tmp_path.iterdir())) == 4


def test_an_empty_split_is_an_error_with_a_remedy(tmp_path):
    sidecar = write(tmp_path, some(1))
    full = [replace(sidecar, split=split) for split in SPLITS]
    require_splits(full)
    with pytest.raises(EmptySplitError, match=r"no song left for val, test.*add songs.*another root"):
        require_splits(full[:2])


def test_what_another_build_removed_is_missed_after_it_was_listed(tmp_path: Path) -> None:
    first, second = (write_shard(tmp_path, "val", n, [make_sample(split="val")], "c0") for n in range(2))
    write_manifest(tmp_path, "demo", "c0", [first, second], {})
    (tmp_path / second.file).unlink()
    with pytest.raises(ManifestError, match=f"{second.file}.*another build"):
        remove_unlisted(tmp_path)
