"""Roots in an object store: fsspec's memory store, and a real S3 server where the extra `s3` is installed."""

import pickle
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from making_samples import make_sample

from pipeline.audio import Probe
from pipeline.errors import BackendUnavailable
from pipeline.records import files, objects
from pipeline.records.catalog import Catalog
from pipeline.records.files import DamageError, Place
from pipeline.records.ledger import Ledger, Row
from pipeline.records.leftovers import collect
from pipeline.records.library import Source
from pipeline.records.sharding import (
    Sidecar,
    committed_shard,
    read_manifest,
    read_shard,
    remove_unlisted,
    write_manifest,
    write_shard,
)
from pipeline.records.splits import SplitConfig, fix_splits, read_splits
from pipeline.records.store import Store
from pipeline.records.verify import verify, verify_root
from pipeline.types import Audio

KEY = "0a1b2c3d"
SAMPLES = [make_sample(f"{number:032x}-orig", seed=number) for number in range(3)]


@pytest.fixture(params=["disk", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty root on each kind of storage."""
    if request.param == "disk":
        return tmp_path / "root"
    base = "memory://tests" if request.param == "memory" else request.getfixturevalue("s3")
    return files.place(f"{base}/{uuid.uuid4().hex}")


@pytest.fixture
def bucket(s3: str) -> objects.ObjectPath:
    """An empty root in S3."""
    place = files.place(f"{s3}/{uuid.uuid4().hex}")
    assert isinstance(place, objects.ObjectPath)
    return place


def names(directory: Place) -> list[str]:
    return sorted(entry.name for entry in files.tree(directory))


def test_a_listing_tells_files_and_folders_and_sizes_the_same_everywhere(root):
    for name in ("a/part-00000.parquet", "a/part-00001.parquet", "a/audio/ab/x.flac", "b.json"):
        files.replace(root / name, name.encode())
    assert [(e.name, e.folder) for e in files.entries(root)] == [("a", True), ("b.json", False)]
    listed = files.entries(root / "a", "part-")
    assert [(e.name, e.bytes, e.folder) for e in listed] == [(f"part-0000{n}.parquet", 20, False) for n in range(2)]
    assert names(root / "a") == ["audio/ab/x.flac", "part-00000.parquet", "part-00001.parquet"]
    assert files.entries(root / "nothing") == names(root / "nothing") == []
    assert sorted(path.name for path in (root / "a").glob("part-*1.parquet")) == ["part-00001.parquet"]


def test_a_version_changes_with_the_content_alone(root):
    path = root / "splits.json"
    assert files.version(path) == ""
    assert files.create(path, b"one")
    first = files.version(path)
    assert first
    assert files.version(path) == first
    files.replace(path, b"other")
    assert files.version(path) not in ("", first)
    path.unlink()
    path.unlink(missing_ok=True)
    assert files.version(path) == ""


def test_of_many_writers_of_one_name_one_wins_and_its_bytes_stay(root):
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda n: files.create(root / "part", b"%d" % n), range(8)))
    assert won.count(True) == 1
    assert (root / "part").read_bytes() == b"%d" % won.index(True)
    assert names(root) == ["part"]


def test_asking_again_for_ones_own_object_is_no_defeat(bucket):
    """A client repeats a request whose answer was lost, and is refused by its own object."""
    assert files.create(bucket / "part", b"mine")
    assert files.create(bucket / "part", b"mine")
    assert not files.create(bucket / "part", b"theirs")


def test_a_place_can_be_pickled_and_built_upon(s3):
    place = files.place(f"{s3}/some/root/")
    assert pickle.loads(pickle.dumps(place)) == place == files.place(f"{s3}/some/root")
    assert (place / "x.tar").with_suffix(".json") == place / "x.json"
    assert ((place / "x.tar").parent, (place / "x.tar").name, str(place / "y")) == (place, "x.tar", f"{s3}/some/root/y")


def test_a_store_that_can_not_refuse_is_refused(tmp_path):
    with pytest.raises(BackendUnavailable, match="only if it is absent"):
        files.prepare(files.place(f"file://{tmp_path}/root"))
    with pytest.raises(BackendUnavailable, match="no file system"):
        files.prepare(files.place("nosuch://bucket/root"))


def test_ledger_parts_are_commits(root):
    ledger = Ledger(root)
    with ThreadPoolExecutor(4) as pool:
        paths = list(
            pool.map(lambda n: ledger.commit("quality", KEY, 3, [Row("ab" * 16, "ok", message=str(n))]), range(6))
        )
    assert len(set(paths)) == 1
    assert len(ledger.rows("quality", KEY, 3)) == 1
    assert ledger.stages() == [("quality", KEY)]
    ledger.commit("quality", KEY, 3, [Row("cd" * 16, "failed")])
    assert names(root) == [f"stages/quality-{KEY}/part-00003{g}.parquet" for g in ("-g001", "")]
    assert [row.status for _, _, row in ledger.story("cd" * 16)] == ["failed"]


def test_catalog_and_splits(root, tmp_path):
    songs = [tmp_path / f"{number}.wav" for number in range(5)]
    for number, path in enumerate(songs):
        path.write_bytes(b"song %d" % number)
    catalog = Catalog(root, lambda uri: Probe(1.0, 44_100, 1))
    sources = [Source(str(path)) for path in songs]
    assert catalog.add(sources[:3], batch_size=2) == [0, 1]
    assert Catalog(root, catalog.probe).add(sources, batch_size=2) == [2]
    assert catalog.batches() == [0, 1, 2]
    told = [row for batch in catalog.batches() for row in catalog.read(batch)]
    assert [row.uri for row in told] == [str(path) for path in songs]
    config = SplitConfig(min_val=0, min_test=0)
    assert fix_splits(root, config, told) == read_splits(root)


def test_artefacts_come_back_and_damage_is_named(root):
    store = Store(root / "stages" / f"separation-{KEY}")
    audio = Audio(np.linspace(-1, 1, 480, dtype=np.float32)[None], 48_000)
    artefact = store.put_audio("ab" * 16, "vocal", audio)
    assert store.put_audio("ab" * 16, "vocal", audio) == artefact
    assert np.allclose(store.get_audio(artefact).samples, audio.samples, atol=2**-23)
    files.replace(store.directory / artefact.path, b"other")
    with pytest.raises(DamageError, match="sha256"):
        store.get_audio(artefact)
    (store.directory / artefact.path).unlink()
    with pytest.raises(DamageError, match="is missing"):
        store.get_audio(artefact)


def test_an_artefact_in_a_store_has_no_path_for_a_player(bucket):
    store = Store(bucket)
    with pytest.raises(BackendUnavailable, match="copy the root"):
        store.path(store.put_arrays("ab" * 16, "tokens", {}))


def write(directory: Place, count: int = 3, number: int = 0) -> Sidecar:
    return write_shard(directory, "train-stage1", number, SAMPLES[:count], "c0", "i0")


def test_a_dataset_is_the_same_bytes_on_every_storage(root, tmp_path):
    sidecar = write(root)
    assert write(tmp_path / "other") == sidecar
    for name in names(root):
        assert (root / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert committed_shard(root, "train-stage1", 0, "i0") == sidecar
    back = list(read_shard(root / sidecar.file, sidecar))
    assert [sample.to_files() for sample in back] == [sample.to_files() for sample in SAMPLES]
    made = write_manifest(root, "demo", "c0", [sidecar], {})
    assert read_manifest(root) == made
    assert verify(root) == []
    write(root, 2)
    assert len(remove_unlisted(root)) == 2
    assert verify(root) == []


def test_writers_of_one_shard_at_once_leave_one_shard(root):
    with ThreadPoolExecutor(3) as pool:
        sidecars = list(pool.map(lambda _: write(root), range(6)))
    assert len(set(sidecars)) == 1
    assert names(root) == [sidecars[0].file.replace(".tar", ".json"), sidecars[0].file]
    write_manifest(root, "demo", "c0", sidecars[:1], {})
    assert verify(root) == []


def test_of_two_writers_that_disagree_the_first_sidecar_stands(root):
    sidecar = write(root)
    place = (root / sidecar.file).with_suffix(".json")
    files.replace(place, place.read_bytes().replace(b'"samples": 3', b'"samples": 7'))
    with pytest.raises(DamageError, match="samples=7"):
        write(root)


def damaged(directory: Place, sidecar: Sidecar, change) -> set[str]:
    path = directory / sidecar.file
    good = path.read_bytes()
    files.replace(path, change(good))
    kinds = {problem.kind for problem in verify(directory)}
    files.replace(path, good)
    return kinds


def test_verify_finds_damage_on_every_storage(root):
    sidecar = write(root)
    write_manifest(root, "demo", "c0", [sidecar], {})
    border = (root / sidecar.file).read_bytes().index(f"{2:032x}".encode())
    assert damaged(root, sidecar, lambda good: good[:border]) == {"bytes", "cut", "samples"}
    assert damaged(root, sidecar, lambda good: good[:700] + bytes([good[700] ^ 1]) + good[701:]) >= {"sha256"}
    twice = write(root, 2, number=1)
    write_manifest(root, "demo", "c0", [sidecar, twice], {})
    assert [problem.kind for problem in verify(root)] == ["duplicate_key"] * 2
    (root / sidecar.file).with_suffix(".json").unlink()
    assert {problem.kind for problem in verify(root)} == {"duplicate_key", "sidecar_missing"}


def test_an_upload_that_never_ended_is_seen_by_no_reader_and_goes_away(bucket):
    dataset = bucket / "datasets" / "demo"
    sidecar = write(bucket / "elsewhere")
    torn = dataset / sidecar.file
    begun = torn.store.call_s3("create_multipart_upload", **_where(torn))
    torn.store.call_s3("upload_part", **_where(torn), UploadId=begun["UploadId"], PartNumber=1, Body=b"x" * 6_000_000)
    assert not torn.exists()
    assert files.entries(dataset) == []
    assert committed_shard(dataset, "train-stage1", 0, "i0") is None
    assert write(dataset) == sidecar
    write_manifest(dataset, "demo", "c0", [sidecar], {})
    assert verify(dataset) == []
    assert {(problem.kind, problem.path) for problem in verify_root(bucket)} == {("leftover", torn)}
    assert [item.upload for item in collect(bucket)] == [begun["UploadId"]]
    assert verify_root(bucket) == collect(bucket, 0) == []
    assert verify(dataset) == []


def _where(path: objects.ObjectPath) -> dict[str, str]:
    bucket, _, key = path.url.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def test_a_writer_cut_off_between_tar_and_sidecar_is_finished_by_the_next(root):
    whole = write(root / "whole")
    files.replace(root / "cut" / whole.file, (root / "whole" / whole.file).read_bytes()[:-9])
    assert committed_shard(root / "cut", "train-stage1", 0, "i0") is None
    assert write(root / "cut") == whole
    assert names(root / "cut") == names(root / "whole")
    assert asdict(whole)["sha256"] == files.digest(root / "cut" / whole.file)[0]


def test_a_writer_that_fails_leaves_nothing(root):
    def failing():
        yield SAMPLES[0]
        raise OSError("disk is gone")

    with pytest.raises(OSError, match="disk is gone"):
        write_shard(root, "train-stage1", 0, failing(), "c0")
    assert names(root) == []
