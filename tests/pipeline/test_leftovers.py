import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from making_samples import make_sample

from pipeline.audio import Probe
from pipeline.records.catalog import Catalog
from pipeline.records.ledger import Ledger, Row
from pipeline.records.leftovers import collect, leftovers
from pipeline.records.library import Source
from pipeline.records.sharding import write_manifest, write_shard
from pipeline.records.store import Store
from pipeline.records.verify import verify, verify_root

KEY = "0a1b2c3d"
TRACK = "ab" * 16
DAY = 86_400
LEFT = {  # what killed writers leave, by what it is
    "attempt": "datasets/demo/.attempt-12-val-000000.tar",
    "shard": "datasets/demo/val-000009-01234567.tar",
    "artefact": f"stages/separation-{KEY}/audio/ab/{TRACK}-vocal-01234567.flac",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one of everything that is committed."""
    root = tmp_path_factory.mktemp("template")
    song = root.parent / f"{root.name}.wav"
    song.write_bytes(b"song")
    Catalog(root, lambda uri: Probe(1.0, 44_100, 1)).add([Source(str(song))])
    ledger = Ledger(root)
    store = Store(ledger.directory("separation", KEY))
    old, new = (store.put_arrays(TRACK, "tokens", {"n": np.arange(n)}) for n in range(2))
    ledger.commit("separation", KEY, 0, [Row(TRACK, "ok", artefacts=(old,))])
    ledger.commit("separation", KEY, 0, [Row(TRACK, "ok", artefacts=(new,))], force=True)
    dataset = root / "datasets" / "demo"
    listed = write_shard(dataset, "train-stage1", 0, [make_sample()], "c0")
    write_shard(dataset, "train-stage1", 0, [make_sample()], "not listed yet")
    write_manifest(dataset, "demo", "c0", [listed], {})
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


ages = st.floats(-30 * DAY, 30 * DAY)  # of files, by a clock that was put back or forward


@settings(deadline=None, max_examples=25)
@given(committed=ages, left=st.dictionaries(st.sampled_from(sorted(LEFT)), ages), lease=st.floats(0, 1000))
def test_what_is_committed_stays_whatever_the_clock_says_and_leftovers_go_with_the_lease(
    template, tmp_path_factory, committed, left, lease
):
    assume(all(abs(lease * 3600 - age) > 600 for age in left.values()))  # the test itself takes a while
    root = shutil.copytree(template, tmp_path_factory.mktemp("root"), dirs_exist_ok=True)
    before, now = contents(root), time.time()
    for path in root.rglob("*"):
        os.utime(path, (now - committed, now - committed))
    for kind, age in left.items():
        (root / LEFT[kind]).parent.mkdir(parents=True, exist_ok=True)
        (root / LEFT[kind]).write_bytes(b"torn")
        os.utime(root / LEFT[kind], (now - age, now - age))
    gone = {str(item.path.relative_to(root)) for item in collect(root, lease)}
    assert gone == {LEFT[kind] for kind, age in left.items() if age > lease * 3600}
    stays = {LEFT[kind]: b"torn" for kind in left if LEFT[kind] not in gone}
    assert contents(root) == before | stays


def test_each_leftover_is_told_by_its_kind_and_a_dry_run_takes_nothing(template, tmp_path):
    root = shutil.copytree(template, tmp_path / "root")
    for name in LEFT.values():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"torn")
        os.utime(root / name, (time.time() - 10,) * 2)  # within one tick of its clock, a store sees no age
    assert {item.kind: str(item.path.relative_to(root)) for item in leftovers(root, time.time())} == LEFT
    assert len(collect(root, lease_hours=0, dry_run=True)) == 3
    assert collect(root) == []
    assert len(collect(root, lease_hours=0)) == 3
    assert leftovers(root, time.time()) == []


def test_a_negative_lease_is_refused(tmp_path):
    with pytest.raises(ValueError, match="-1 hours"):
        collect(tmp_path, -1)


def test_a_put_renews_the_lease_of_what_a_killed_writer_left(tmp_path):
    """Else gc could take it between this writer's put and its commit."""
    store = Store(Ledger(tmp_path).directory("separation", KEY))
    path = store.path(store.put_arrays(TRACK, "tokens", {}))
    os.utime(path, (0, 0))
    store.put_arrays(TRACK, "tokens", {})
    assert collect(tmp_path) == []
    sidecar = write_shard(tmp_path / "datasets" / "d", "test", 0, [make_sample(split="test")], "c0")
    tar = tmp_path / "datasets" / "d" / sidecar.file
    tar.with_suffix(".json").unlink()
    os.utime(tar, (0, 0))
    write_shard(tar.parent, "test", 0, [make_sample(split="test")], "c0")
    tar.with_suffix(".json").unlink()
    assert collect(tmp_path) == []


def test_verify_names_what_is_old_and_damaged_under_a_whole_root(template, tmp_path):
    root = shutil.copytree(template, tmp_path / "root")
    for name in LEFT.values():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"torn")
    young = {problem.kind for problem in verify_root(root)}
    for name in LEFT.values():
        os.utime(root / name, (0, 0))
    assert young == {"unlisted"}
    assert [problem.kind for problem in verify_root(root)].count("leftover") == 3
    assert [problem.kind for problem in verify(root / "datasets" / "demo")].count("leftover") == 1
    collect(root)
    newest = sorted((root / "stages").rglob("*.safetensors"), key=lambda path: path.stat().st_size)[-1]
    newest.write_bytes(b"changed")
    assert [problem.kind for problem in verify_root(root) if problem.path == newest] == ["artefact"]
    newest.unlink()
    assert "is missing" in next(problem.message for problem in verify_root(root) if problem.path == newest)


def test_a_catalog_that_is_no_table_is_an_error(template, tmp_path):
    root = shutil.copytree(template, tmp_path / "root")
    (root / "catalog" / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="arquet"):
        verify_root(root)
