"""A song is taken out of everything, nothing else changes, and a run that was cut off is finished by the next."""

import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
from making_samples import make_sample

from pipeline.audio import Probe
from pipeline.errors import BadInput
from pipeline.records import files, parquet
from pipeline.records.catalog import Catalog
from pipeline.records.files import DamageError, Place
from pipeline.records.forget import Forgotten, forget
from pipeline.records.ledger import Ledger, Row
from pipeline.records.library import Source
from pipeline.records.sharding import history, read_manifest, read_shard, write_manifest, write_shard
from pipeline.records.store import Store
from pipeline.records.verify import verify_root

STAGES = (("separation", "0a1b2c3d"), ("tokenization", "4e5f6a7b"))
SONGS = 5


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    for number in range(SONGS):
        (folder / f"{number}.wav").write_bytes(b"song %d" % number)
    return folder


@pytest.fixture(params=["disk", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return tmp_path / "root"
    base = "memory://tests" if request.param == "memory" else request.getfixturevalue("s3")
    return files.place(f"{base}/{uuid.uuid4().hex}")


def catalog_of(root: Place) -> Catalog:
    return Catalog(root, lambda uri: Probe(1.0, 44_100, 1))


def sources(library: Path) -> list[Source]:
    return [Source(str(library / f"{number}.wav"), artist=f"artist {number}") for number in range(SONGS)]


def tracks(root: Place) -> list[str]:
    catalog = catalog_of(root)
    return [row.track_id for batch in catalog.batches() for row in catalog.read(batch)]


def build(root: Place, library: Path) -> list[str]:
    """Catalog, rows, artefacts and one dataset; the track ids by song."""
    catalog, ledger = catalog_of(root), Ledger(root)
    catalog.add(sources(library), batch_size=3)
    sidecars = []
    for batch in catalog.batches():
        mine = [row.track_id for row in catalog.read(batch)]
        for stage, key in STAGES:
            store = Store(ledger.directory(stage, key))
            made = {track: store.put_arrays(track, "a", {"n": np.frombuffer(track.encode(), "u1")}) for track in mine}
            ledger.commit(stage, key, batch, [Row(track, "failed", message=track) for track in mine])
            ledger.commit(stage, key, batch, [Row(track, "ok", artefacts=(made[track],)) for track in mine])
        samples = [make_sample(f"{track}-orig", seed=int(track[:8], 16)) for track in sorted(mine)]
        for split in ("train-stage1", "train-stage2"):
            sidecars.append(write_shard(root / "datasets" / "demo", split, batch, samples, "c0", "i0"))
    write_manifest(root / "datasets" / "demo", "demo", "c0", sidecars, {"separation": STAGES[0][1]}, empty_text=[0.5])
    return tracks(root)


def contents(root: Place) -> dict[str, bytes]:
    return {entry.name: (root / entry.name).read_bytes() for entry in files.tree(root)}


def told(root: Place) -> dict[str, bytes]:
    """The same, tables as their text."""
    return {
        name: str(parquet.decode(data).to_pylist()).encode() if name.endswith(".parquet") else data
        for name, data in contents(root).items()
    }


def keys(root: Place) -> dict[str, bytes]:
    """Every sample's vocal codes by shard set and key."""
    dataset = root / "datasets" / "demo"
    listed = ((shard, read_shard(dataset / shard.file, shard)) for shard in read_manifest(dataset).shards)
    return {
        f"{shard.split} {sample.info.key}": b"".join(v for _, v in sorted(sample.to_files().items()))
        for shard, samples in listed
        for sample in samples
    }


def test_a_song_is_gone_from_everywhere_and_other_bytes_stay(root, library):
    ids = build(root, library)
    gone, before, samples = ids[1], contents(root), keys(root)
    done = forget(root, gone, "contract ended")
    assert done == Forgotten(gone, rows=4, artefacts=2, shards=done.shards)
    assert len(done.shards) == 2
    after = contents(root)
    tombstones = {"catalog/part-00000.parquet", "datasets/demo/manifest.json"}
    said = told(root)
    assert {name for name, data in said.items() if gone.encode() in data} == tombstones
    assert not any(gone in name or b"/1.wav" in data or b"artist 1" in data for name, data in said.items())
    assert keys(root) == {key: data for key, data in samples.items() if gone not in key}
    assert verify_root(root) == []
    assert tracks(root) == [track for track in ids if track != gone]
    touched = {name for name in before if after.get(name) != before[name]}
    assert not any("part-00001" in name or "000001-" in name for name in touched)  # the other batch
    ledger = Ledger(root)
    assert [ledger.story(gone), len(ledger.story(ids[0]))] == [[], 4]


def test_a_shard_without_the_song_is_the_one_that_a_build_would_write(tmp_path, library):
    ids = build(tmp_path, library)
    dataset = tmp_path / "datasets" / "demo"
    forget(tmp_path, ids[1], "x")
    left = [make_sample(f"{track}-orig", seed=int(track[:8], 16)) for track in sorted({ids[0], ids[2]})]
    before = read_manifest(dataset).shards[0]
    again = write_shard(dataset, "train-stage1", 0, left, "c0", "i1")
    assert (again.file, again.sha256, again.inputs_sha256) == (before.file, before.sha256, "i1")


def test_the_manifest_tells_what_was_taken_out(tmp_path, library):
    ids = build(tmp_path, library)
    dataset = tmp_path / "datasets" / "demo"
    first, second = forget(tmp_path, ids[1], "contract ended"), forget(tmp_path, ids[4], "")
    told = history(dataset)
    assert [(event["forgotten"], event["reason"]) for event in told] == [(ids[1], "contract ended"), (ids[4], "")]
    assert [tuple(sorted(event["shards"])) for event in told] == [first.shards, second.shards]
    listed = {shard.file for shard in read_manifest(dataset).shards}
    assert {new for event in told for new in event["shards"].values()} == listed
    assert read_manifest(dataset).extra["empty_text"] == [0.5]


def test_the_last_song_of_a_shard_takes_the_shard_along(tmp_path, library):
    ids = build(tmp_path, library)
    for track in ids[3:]:
        forget(tmp_path, track, "")
    dataset = tmp_path / "datasets" / "demo"
    assert {shard.number for shard in read_manifest(dataset).shards} == {0}
    assert set(history(dataset)[-1]["shards"].values()) == {""}
    assert len(list(dataset.iterdir())) == 5
    assert verify_root(tmp_path) == []
    assert catalog_of(tmp_path).read(1) == []


def test_later_builds_leave_a_forgotten_song_out_wherever_it_lies(root, library, tmp_path):
    ids = build(root, library)
    forget(root, str(library / "1.wav"), "contract ended")
    copy = tmp_path / "copy.wav"
    copy.write_bytes((library / "1.wav").read_bytes())
    new = tmp_path / "new.wav"
    new.write_bytes(b"new song")
    before = contents(root)
    assert catalog_of(root).add([*sources(library), Source(str(copy))]) == []
    assert contents(root) == before
    assert catalog_of(root).add([*sources(library), Source(str(copy)), Source(str(new))]) == [2]
    assert catalog_of(root).forgotten() == {ids[1]: "contract ended"}
    assert ids[1] not in tracks(root)
    assert catalog_of(root).find("copy.wav") == []


def test_a_place_that_held_another_song_is_not_given_back_to_it(tmp_path):
    place, other = tmp_path / "a.wav", tmp_path / "b.wav"
    root = tmp_path / "root"
    for data in (b"first", b"withdrawn"):
        place.write_bytes(data)
        catalog_of(root).add([Source(str(place))])
    first, withdrawn = tracks(root)
    forget(root, withdrawn, "")
    row = catalog_of(root).find(first)[0]
    assert row.error == "replaced"  # its bytes are gone; those at its place must not be taken for it
    other.write_bytes(b"third")
    catalog_of(root).add([Source(str(other))])
    other.write_bytes(b"withdrawn")
    os.utime(other, (0, 0))
    catalog_of(root).add([Source(str(other))])
    assert {row.error for row in (catalog_of(root).find(track)[0] for track in tracks(root))} == {"replaced"}


def test_forgetting_twice_changes_nothing_more(tmp_path, library):
    ids = build(tmp_path, library)
    forget(tmp_path, ids[1], "contract ended")
    before = contents(tmp_path)
    for name in (ids[1], ids[1][:9], str(library / "1.wav")):
        assert forget(tmp_path, name, "another reason") == Forgotten(ids[1], 0, 0, ())
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["nothing", "no/such/file.wav", "0" * 32])
def test_a_song_that_nobody_knows(tmp_path, library, name):
    build(tmp_path, library)
    with pytest.raises(BadInput, match="names no song"):
        forget(tmp_path, name, "")


def test_a_name_of_two_songs_and_a_song_that_was_never_read(tmp_path):
    for folder, data in (("a", b"one"), ("b", b"two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.wav").write_bytes(data)
    gone = tmp_path / "gone.wav"
    catalog_of(tmp_path / "root").add([Source(str(path)) for path in (*tmp_path.glob("?/same.wav"), gone)])
    with pytest.raises(BadInput, match="names 2 songs"):
        forget(tmp_path / "root", "same.wav", "")
    with pytest.raises(BadInput, match="ever read"):
        forget(tmp_path / "root", str(gone), "")


def test_a_damaged_shard_is_not_committed_anew(tmp_path, library):
    ids = build(tmp_path, library)
    dataset = tmp_path / "datasets" / "demo"
    path = dataset / read_manifest(dataset).shards[0].file
    good = path.read_bytes()
    path.write_bytes(good[:600] + b"?" + good[601:])
    with pytest.raises(DamageError, match="not as committed"):
        forget(tmp_path, ids[1], "")
    path.write_bytes(good[:700])
    with pytest.raises(DamageError, match="searched"):
        forget(tmp_path, ids[1], "")
    path.write_bytes(good)
    forget(tmp_path, ids[1], "")
    assert verify_root(tmp_path) == []


def test_what_killed_writers_left_of_a_song_goes_too(tmp_path, library):
    ids = build(tmp_path, library)
    dataset = tmp_path / "datasets" / "demo"
    old = write_shard(dataset, "train-stage1", 0, [make_sample(f"{ids[1]}-orig")], "an older recipe")
    bare = write_shard(dataset, "train-stage1", 0, [make_sample(f"{ids[1]}-orig")], "a cut off build")
    (dataset / bare.file).with_suffix(".json").unlink()
    (dataset / ".attempt-1-train-stage1-000000.tar").write_bytes(ids[1].encode())
    Store(Ledger(tmp_path).directory(*STAGES[0])).put_arrays(ids[1], "unnamed", {})
    forget(tmp_path, ids[1], "")
    assert not any(name in os.listdir(dataset) for name in (old.file, bare.file))
    assert not any(name.startswith(".attempt") for name in os.listdir(dataset))
    assert {name for name, data in told(tmp_path).items() if ids[1].encode() in data} == {
        "catalog/part-00000.parquet",
        "datasets/demo/manifest.json",
    }


class PowerCut(BaseException):
    """The machine is gone: nothing after it is cleaned up."""


def test_cut_off_at_any_step_and_run_again_the_root_is_the_same(tmp_path, library, monkeypatch):
    template = tmp_path / "template"
    gone = build(template, library)[1]
    alone = shutil.copytree(template, tmp_path / "alone")
    forget(alone, gone, "contract ended")
    steps = 0
    while True:
        root = shutil.copytree(template, tmp_path / f"cut{steps}")
        if _forget_cut_off(root, gone, steps, monkeypatch):
            break
        forget(root, gone, "contract ended")
        assert contents(root) == contents(alone), f"cut at step {steps}"
        shutil.rmtree(root)
        steps += 1
    assert steps > 15


def _forget_cut_off(root: Path, track_id: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether it came to its end within this many changes of the disk."""
    left = [steps]

    def cut(change):
        def wrapped(*args, **kwargs):
            if left[0] == 0:
                raise PowerCut
            left[0] -= 1
            return change(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("link", "replace"):
            patch.setattr(os, name, cut(getattr(os, name)))
        patch.setattr(Path, "unlink", cut(Path.unlink))
        try:
            forget(root, track_id, "contract ended")
        except PowerCut:
            return False
    return True
