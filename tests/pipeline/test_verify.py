import io
import json
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from making_samples import make_sample

from pipeline.records import files
from pipeline.records.schema import Sample
from pipeline.records.sharding import Sidecar, read_manifest, write_manifest, write_shard
from pipeline.records.verify import verify


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    train = [make_sample(f"{number:032x}-orig", seed=number) for number in range(4)]
    test = [make_sample("f" * 32 + "-orig", split="test")]
    sidecars = [write_shard(tmp_path, "train-stage1", 0, train, "c"), write_shard(tmp_path, "test", 0, test, "c")]
    write_manifest(tmp_path, "demo", "c", sidecars, {})
    return tmp_path


def kinds(directory: Path) -> set[str]:
    return {problem.kind for problem in verify(directory)}


def shard(dataset: Path) -> Path:
    return dataset / read_manifest(dataset).shards[0].file


def recommit(path: Path, samples: int | None = None) -> None:
    """Make sidecar and manifest agree with a tar's present bytes, as if a wrong writer had committed them."""
    sha256, size = files.digest(path)
    manifest = read_manifest(path.parent)
    changed: list[Sidecar] = []
    for old in manifest.shards:
        if old.file == path.name:
            new = replace(old, sha256=sha256, bytes=size, samples=samples or old.samples)
            path.with_suffix(".json").write_text(json.dumps(asdict(new)))
        changed.append(new if old.file == path.name else old)
    write_manifest(path.parent, manifest.name, manifest.config_hash, changed, manifest.stages)


def rewrite(path: Path, samples: list[Sample]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for extension, data in sorted(sample.to_files().items()):
                info = tarfile.TarInfo(f"{sample.info.key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def test_a_good_dataset_has_no_problem(dataset):
    (dataset / "README.md").write_text("card")
    (dataset / ".attempt-1-test-000000.tar").write_bytes(b"of a living writer")
    assert verify(dataset) == []


def test_missing_parts_are_named(dataset):
    shard(dataset).with_suffix(".json").unlink()
    assert kinds(dataset) == {"sidecar_missing"}
    shard(dataset).unlink()
    assert kinds(dataset) == {"sidecar_missing", "shard_missing"}
    (dataset / "manifest.json").unlink()
    assert kinds(dataset) == {"manifest"}


def test_every_single_flipped_byte_of_a_shard_is_found(dataset):
    path = shard(dataset)
    good = path.read_bytes()
    for place in range(0, len(good), len(good) // 20):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert "sha256" in kinds(dataset)


def test_a_tar_cut_between_two_members_reads_well_and_is_found(dataset):
    path = shard(dataset)
    with tarfile.open(path) as tar:
        places = {member.name: member.offset for member in tar}
    border = places[next(name for name in places if name.startswith(f"{2:032x}"))]
    path.write_bytes(path.read_bytes()[:border])
    with tarfile.open(path) as tar:
        assert len(tar.getmembers()) == len(places) // 2  # no error, and half the samples gone
    assert kinds(dataset) == {"bytes", "cut", "samples"}
    recommit(path)
    assert kinds(dataset) == {"cut", "samples"}
    recommit(path, samples=2)
    assert kinds(dataset) == {"cut", "keys"}


def test_a_tar_cut_inside_a_member_is_found(dataset):
    path = shard(dataset)
    path.write_bytes(path.read_bytes()[:1000])
    assert {"bytes", "cut"} <= kinds(dataset)


def test_wrong_samples_under_right_hashes_are_found(dataset):
    path = shard(dataset)
    first, second = (make_sample(f"{number:032x}-orig", seed=number) for number in range(2))
    rewrite(path, [first])
    recommit(path)
    assert kinds(dataset) == {"samples"}
    rewrite(path, [first, second, first, second])
    recommit(path)
    assert kinds(dataset) == {"keys", "duplicate_key"}
    torn = replace(first, vocal=first.vocal[:, :-1])
    rewrite(path, [torn])
    recommit(path)
    assert kinds(dataset) == {"contract"}


def test_a_song_in_two_splits_is_a_leak(dataset):
    stretched = make_sample("0" * 32 + "-stretch-1_1", split="test", seed=5)
    leaking = write_shard(dataset, "test", 1, [stretched], "c")
    manifest = read_manifest(dataset)
    write_manifest(dataset, "demo", "c", [*manifest.shards, leaking], {})
    assert kinds(dataset) == {"leak"}


def test_sidecar_and_manifest_must_agree(dataset):
    path = shard(dataset).with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"config_hash": "other"}))
    assert kinds(dataset) == {"sidecar_differs"}
    path.write_text("{")
    assert kinds(dataset) == {"sidecar_differs"}


def test_what_no_manifest_lists_is_named(dataset):
    extra = write_shard(dataset, "val", 0, [make_sample("e" * 32, split="val")], "c")
    assert {problem.path.name for problem in verify(dataset)} == {extra.file, extra.file.replace("tar", "json")}
    assert kinds(dataset) == {"unlisted"}
