import hashlib
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio import Probe
from pipeline.errors import BadInput
from pipeline.records import parquet
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.content import stamp
from pipeline.records.files import DamageError
from pipeline.records.library import Source


def header(uri: str) -> Probe:
    """Every file is ten seconds long, except those that begin with a cross."""
    if Path(uri).read_bytes().startswith(b"x"):
        raise BadInput(f"{uri}: no header", "unreadable")
    return Probe(10.0, 48_000, 2)


def put(folder: Path, **texts: str) -> list[Source]:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [Source(str(folder / name)) for name in texts]


def everything(catalog: Catalog) -> list[CatalogRow]:
    return [row for batch in catalog.batches() for row in catalog.read(batch)]


def ids(catalog: Catalog) -> list[list[str]]:
    return [[row.track_id for row in catalog.read(batch)] for batch in catalog.batches()]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "root", header)


def test_a_track_is_its_bytes(catalog, tmp_path):
    [source] = put(tmp_path / "lib", a="song")
    said = Source(source.uri, "test", "Ann", "slow", "CC0-1.0", "/v.wav", "/a.wav")
    assert catalog.add([said]) == [0]
    sha256 = hashlib.sha256(b"song").hexdigest()
    facts = (sha256, 4, 10.0, 48_000, 2, "test", "Ann", "slow", "CC0-1.0", "/v.wav", "/a.wav", "", "")
    assert everything(catalog) == [CatalogRow(sha256[:32], (source.uri,), *facts)]


@settings(deadline=None, max_examples=15)
@given(
    texts=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12),
    visits=st.lists(st.integers(0, 12), max_size=3),
    size=st.integers(1, 4),
)
def test_batches_never_change_and_every_place_has_one_track(tmp_path_factory, texts, visits, size):
    home = tmp_path_factory.mktemp("home")
    sources = [put(home / "lib", **{f"s{number}": text})[0] for number, text in enumerate(texts)]
    catalog, before = Catalog(home, header), []
    for visit in [*sorted(visits), len(sources)]:
        catalog.add(sources[:visit], batch_size=size)
        now = ids(Catalog(home, header))
        assert now[: len(before)] == before
        before = now
    assert [track for batch in before for track in batch] == list(
        dict.fromkeys(hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts)
    )
    assert all(len(batch) <= size for batch in before)
    for row in everything(catalog):
        same = {source.uri for source, text in zip(sources, texts, strict=True) if text == Path(row.uri).read_text()}
        assert set(row.uris) == same


def test_a_second_visit_adds_nothing(catalog, tmp_path):
    sources = [*put(tmp_path / "lib", a="one", b="two", c="one", empty=""), Source(str(tmp_path / "gone"))]
    catalog.add(sources)
    files = sorted(catalog.directory.iterdir())
    assert catalog.add(sources) == []
    assert sorted(catalog.directory.iterdir()) == files


def test_a_touched_file_is_read_once_more_and_no_longer(catalog, tmp_path):
    sources = put(tmp_path / "lib", a="one")
    catalog.add(sources)
    os.utime(sources[0].uri, (0, 0))
    for _ in range(2):
        assert catalog.add(sources) == []
        assert len(list(catalog.directory.iterdir())) == 2
    assert everything(catalog)[0].uris == (sources[0].uri,)


def test_a_stamp_changes_with_the_file(tmp_path):
    [source] = put(tmp_path / "lib", a="one")
    stamps = [stamp(source.uri)]
    assert stamp(source.uri) == stamps[0]
    for text in ("longer", "o"):
        put(tmp_path / "lib", a=text)
        stamps.append(stamp(source.uri))
    put(tmp_path / "new", a="o")
    os.replace(tmp_path / "new/a", source.uri)
    stamps.append(stamp(source.uri))
    assert len(set(stamps)) == 4
    assert stamp(str(tmp_path / "gone")) == stamp("memory://gone/a.wav") == stamp("nonsense://host/a.wav") == ""


def test_known_bytes_elsewhere_are_another_place_of_the_same_track(catalog, tmp_path):
    catalog.add(put(tmp_path / "lib", a="one", b="two"))
    assert catalog.add(put(tmp_path / "other", copy="one")) == []
    assert [path.name for path in sorted(catalog.directory.iterdir())] == [
        "alias-00001-00000.parquet",
        "part-00000.parquet",
    ]
    assert catalog.read(0)[0].uris == (str(tmp_path / "lib/a"), str(tmp_path / "other/copy"))


def test_other_bytes_in_a_known_place_are_a_new_track_and_the_old_one_says_so(catalog, tmp_path):
    sources = put(tmp_path / "lib", a="one")
    catalog.add(sources)
    put(tmp_path / "lib", a="three")
    assert catalog.add(sources) == [1]
    old, new = everything(catalog)
    assert (old.error, new.error) == ("replaced", "")
    assert new.track_id in old.message
    put(tmp_path / "lib", a="one!"[:3])
    assert catalog.add(sources) == []
    old, new = everything(catalog)
    assert (old.error, new.error) == ("", "replaced")


def test_what_can_not_be_read_is_a_row_with_a_reason(catalog, tmp_path):
    sources = [*put(tmp_path / "lib", bad="x-ray", empty=""), Source(str(tmp_path / "gone.wav")), Source(str(tmp_path))]
    catalog.add(sources)
    rows = everything(catalog)
    assert [row.error for row in rows] == ["unreadable", "empty", "missing", "unreadable"]
    assert all(row.message and (row.duration, row.sample_rate, row.channels) == (0, 0, 0) for row in rows)
    assert [bool(row.sha256) for row in rows] == [True, False, False, False]
    assert rows[2].track_id == hashlib.sha256(sources[2].uri.encode()).hexdigest()[:32]
    assert catalog.add(sources) == []


def test_a_missing_song_that_turns_up_is_a_new_track_and_a_lost_one_keeps_its_place(catalog, tmp_path):
    sources = [Source(str(tmp_path / "lib/a"))]
    catalog.add(sources)
    put(tmp_path / "lib", a="here")
    assert catalog.add(sources) == [1]
    os.unlink(sources[0].uri)
    assert catalog.add(sources) == []
    assert [row.error for row in everything(catalog)] == ["missing", ""]


def test_real_headers_are_read(tmp_path):
    good, eight = tmp_path / "good.wav", tmp_path / "eight.flac"
    soundfile.write(good, np.zeros((4_800, 2)), 48_000)
    soundfile.write(eight, np.zeros(800), 8_000)
    (tmp_path / "page.mp3").write_text("<html>")
    catalog = Catalog(tmp_path / "root")
    catalog.add([Source(str(good)), Source(str(eight)), Source(str(tmp_path / "page.mp3"))])
    facts = [(row.duration, row.sample_rate, row.channels, row.error) for row in everything(catalog)]
    assert facts == [(0.1, 48_000, 2, ""), (0.1, 8_000, 1, ""), (0, 0, 0, "unreadable")]


def test_a_known_track_is_not_edited_and_that_is_said(catalog, tmp_path, caplog):
    [source] = put(tmp_path / "lib", a="one")
    catalog.add([source])
    catalog.add([Source(source.uri, split="test")])
    assert everything(catalog)[0].split == ""
    assert "{'split': 'test'} is not taken: take another root" in caplog.text
    catalog.add([Source(source.uri, vocal="/v.wav", accompaniment="/a.wav")])
    assert "{'vocal_uri': '/v.wav', 'accompaniment_uri': '/a.wav'} is not taken" in caplog.text


def test_killed_between_batches_and_run_again_the_batches_are_the_same(tmp_path):
    sources = put(tmp_path / "lib", **{f"s{number}": str(number % 7) for number in range(10)})
    whole, killed = Catalog(tmp_path / "whole", header), Catalog(tmp_path / "killed", header)
    whole.add(sources, batch_size=2)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed.add(sources, batch_size=2, progress=stop)
    (killed.directory / ".attempt-1-part-00002.parquet").write_bytes(b"PAR1")
    killed.add(sources, batch_size=2)
    assert everything(killed) == everything(whole)


def test_two_catalogues_at_once_put_every_song_in_one_batch(tmp_path):
    sources = put(tmp_path / "lib", **{f"s{number}": str(number) for number in range(40)})

    def add(writer: int) -> None:
        Catalog(tmp_path, header).add(sources[writer * 5 : writer * 5 + 20], batch_size=6)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(5)))
    tracks = [row.track_id for row in everything(Catalog(tmp_path, header))]
    assert len(tracks) == len(set(tracks)) == 40
    assert all(row.uris and not row.error for row in everything(Catalog(tmp_path, header)))


def test_threads_that_look_at_one_catalog_see_the_same_batches(catalog, tmp_path):
    catalog.add(put(tmp_path / "a", **{f"s{n}": f"song {n}" for n in range(8)}), batch_size=1)
    truth = ids(catalog)
    for _ in range(10):  # without a lock, a file was read by two threads and its batch stood there twice
        shared = Catalog(tmp_path / "root", header)
        with ThreadPoolExecutor(4) as pool:
            assert all(seen == truth for seen in pool.map(ids, [shared] * 4))


def test_a_file_that_could_not_be_read_once_is_read_at_the_next_look(tmp_path, monkeypatch):
    """The folder is settled, so the next look lists it no more; what the last one left out must not stay out."""
    library, now = tmp_path / "lib", [0.0]
    writer = Catalog(tmp_path / "root", header)
    writer.add(put(library, a="one"))
    writer.add(put(library, a="two"))
    held = Catalog(tmp_path / "root", header, clock=lambda: now[0])
    held.read(0)
    writer.add(put(library, a="three"))
    held.batches()
    now[0] += 60.0
    broken = Catalog(tmp_path / "root", header, clock=lambda: now[0])
    read, failures = parquet.read, [OSError("hiccup")]

    def flaky(path):
        if path.name.startswith("part-00002") and failures:
            raise failures.pop()
        return read(path)

    monkeypatch.setattr(parquet, "read", flaky)
    broken._folder.entries()
    now[0] += 60.0
    with pytest.raises(OSError, match="hiccup"):
        broken.read(0)
    assert broken.read(0) == held.read(0) == writer.read(0)
    assert broken.read(1)[0].error == "replaced"


@settings(deadline=None, max_examples=25)
@given(steps=st.lists(st.sampled_from(["new", "copy", "change", "touch", "forget", "wait"]), max_size=12))
def test_a_catalog_that_is_held_for_days_answers_as_a_fresh_one(tmp_path_factory, steps):
    home, now = tmp_path_factory.mktemp("home"), [0.0]
    root, library = home / "root", home / "lib"
    held = Catalog(root, header, clock=lambda: now[0])
    Catalog(root, header).add(put(library, s0="song 0"))
    for number, step in enumerate(steps, start=1):
        writer, places = Catalog(root, header), sorted(library.iterdir())
        if step == "wait":  # for the folder to settle, so that the next look need not list it
            os.utime(root / "catalog", ns=(10**18 + number, 10**18 + number))
            held.read(0)
            now[0] += 60.0
        elif step == "forget":
            writer.forget(everything(writer)[0].track_id, "asked") if everything(writer) else None
        else:
            name, text = f"s{number}", f"song {number}"
            name, text = (places[0].name, text) if step == "change" else (name, text)
            name, text = (name, places[0].read_text()) if step == "copy" else (name, text)
            if step == "touch":
                os.utime(places[0], ns=(number, number))
            else:
                put(library, **{name: text})
            writer.add([Source(str(path)) for path in sorted(library.iterdir())], batch_size=2)
        fresh = Catalog(root, header)
        for batch in fresh.batches():
            rows = held.read(batch)
            assert rows == fresh.read(batch)
            assert [row.stamps for row in rows] == [row.stamps for row in fresh.read(batch)]
        assert held.batches() == fresh.batches()


def test_a_lost_part_is_damage(catalog, tmp_path):
    catalog.add(put(tmp_path / "lib", a="one", b="two"), batch_size=1)
    (catalog.directory / "part-00000.parquet").unlink()
    with pytest.raises(DamageError, match=r"part-00000\.parquet is missing"):
        Catalog(tmp_path / "root").batches()


def test_a_root_made_anew_in_its_place_is_read_anew(tmp_path):
    catalog = Catalog(tmp_path / "root", header)
    catalog.add(put(tmp_path / "lib", a="one"))
    before = ids(catalog)
    shutil.rmtree(tmp_path / "root")
    Catalog(tmp_path / "root", header).add(put(tmp_path / "lib", b="two"))
    assert ids(catalog) != before
    assert ids(catalog) == ids(Catalog(tmp_path / "root", header))


def test_find_by_id_place_name_and_bytes(catalog, tmp_path, monkeypatch):
    sources = put(tmp_path / "lib", a="one", b="two")
    catalog.add(sources)
    first = catalog.read(0)[0]
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "elsewhere", copy="one")
    for text in (first.track_id, first.track_id[:6], first.uri, "lib/a", "a", "elsewhere/copy"):
        assert catalog.find(text) == [first], text
    assert catalog.find("nothing") == []
    assert catalog.batch_of(first.track_id) == 0


def test_what_is_not_there_is_named(catalog, tmp_path, caplog):
    assert catalog.batches() == []
    with pytest.raises(ValueError, match=r"batch 3: the catalog in .* has 0 batches"):
        catalog.read(3)
    with pytest.raises(ValueError, match="not in the catalog"):
        catalog.batch_of("0" * 32)
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        catalog.add([], batch_size=0)
    with caplog.at_level(logging.INFO):
        assert catalog.add([]) == []
    assert "0 new batches" in caplog.text


def test_progress_counts_every_song(catalog, tmp_path):
    seen: list[tuple[int, int]] = []
    catalog.add(
        put(tmp_path / "lib", a="one", b="one", c="two"), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
