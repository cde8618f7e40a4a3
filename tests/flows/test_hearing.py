"""A song's file changes while a build runs: what is heard under its name is never another song."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.stages.hearing import FileChangedError, FileMissingError, hear, hear_stem
from pipeline.audio import DecodeLimits, write
from pipeline.errors import BadInput
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.library import Source
from pipeline.types import Audio

LIMITS = DecodeLimits(min_seconds=0.01)
RATE = 16_000


def song(path: Path, seed: int) -> Path:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (1, 3200)).astype(np.float32)
    write(path, Audio(noise, RATE))
    return path


def catalogued(root: Path, *paths: Path) -> CatalogRow:
    """The one track that these files hold."""
    catalog = Catalog(root)
    catalog.add([Source(str(path)) for path in paths])
    (track,) = catalog.read(0)
    return track


def test_unchanged_song_is_heard_and_its_stamp_is_the_catalogues(tmp_path: Path) -> None:
    track = catalogued(tmp_path, song(tmp_path / "a.wav", 1))
    facts = os.stat(track.uri)
    assert track.stamps == (f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ctime_ns}-{facts.st_ino}",)
    assert hear(track, LIMITS).length == 3200


@pytest.mark.parametrize("seed", [2, None])
def test_changed_song_is_not_heard(tmp_path: Path, seed: int | None) -> None:
    track = catalogued(tmp_path, song(tmp_path / "a.wav", 1))
    if seed:
        song(Path(track.uri), seed)
    else:
        Path(track.uri).write_bytes(b"")
    with pytest.raises(FileChangedError, match=r"a\.wav changed after it was catalogued.*run the build again"):
        hear(track, LIMITS)


def test_touched_song_is_heard_and_so_is_one_whose_stamp_nobody_knows(tmp_path: Path) -> None:
    track = catalogued(tmp_path, song(tmp_path / "a.wav", 1))
    os.utime(track.uri, (0, 0))
    assert hear(track, LIMITS).length == 3200
    assert hear(replace(track, stamps=("",)), LIMITS).length == 3200
    assert hear(replace(track, stamps=()), LIMITS).length == 3200


def test_song_is_heard_where_it_still_lies(tmp_path: Path) -> None:
    track = catalogued(tmp_path, song(tmp_path / "a.wav", 1), song(tmp_path / "b.wav", 1), song(tmp_path / "c.wav", 1))
    whole = hear(track, LIMITS)
    Path(track.uris[0]).unlink()
    song(Path(track.uris[1]), 2)
    assert np.array_equal(hear(track, LIMITS).samples, whole.samples)


def test_missing_song_is_a_failure_and_no_verdict(tmp_path: Path) -> None:
    track = catalogued(tmp_path, song(tmp_path / "a.wav", 1))
    for seen in (track, replace(track, stamps=("",)), replace(track, stamps=())):
        Path(track.uri).rename(tmp_path / "away.wav")
        with pytest.raises(FileMissingError, match=r"a\.wav does not exist.*is its disk mounted"):
            hear(seen, LIMITS)
        Path(tmp_path / "away.wav").rename(track.uri)
        assert hear(seen, LIMITS).length == 3200


def test_song_that_can_not_be_read_now_is_a_failure(tmp_path: Path) -> None:
    track = catalogued(tmp_path, song(tmp_path / "a.wav", 1))
    Path(track.uri).unlink()
    Path(track.uri).mkdir()  # as root, no permission keeps a file from being read
    with pytest.raises(FileMissingError, match=r"a\.wav can't be read"):
        hear(track, LIMITS)


def test_missing_stem_is_a_failure_and_a_broken_one_a_verdict(tmp_path: Path) -> None:
    path = song(tmp_path / "vocal.wav", 1)
    assert hear_stem(str(path), LIMITS).length == 3200
    Path(path).unlink()
    with pytest.raises(FileMissingError, match=r"vocal\.wav: no such file.*true stem"):
        hear_stem(str(path), LIMITS)
    Path(path).write_bytes(b"no sound")
    with pytest.raises(BadInput):
        hear_stem(str(path), LIMITS)


def test_song_that_changes_under_its_reader_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written anew between the first look at it and the end of its decoding."""
    from flows.stages import hearing

    track = catalogued(tmp_path, song(tmp_path / "a.wav", 1))
    decode = hearing.decode

    def slowly(uri: str, limits: DecodeLimits) -> Audio:
        audio = decode(uri, limits)
        song(Path(uri), 3)
        return audio

    monkeypatch.setattr(hearing, "decode", slowly)
    with pytest.raises(FileChangedError):
        hear(track, LIMITS)


def test_looking_costs_next_to_nothing(tmp_path: Path) -> None:
    from pipeline.records.content import stamp, still_holds

    track = catalogued(tmp_path, song(tmp_path / "a.wav", 1))
    begun = time.process_time()
    for _ in range(1000):
        seen = stamp(track.uri)
        assert still_holds(track.uri, track.stamps[0], seen, track.sha256)
        assert stamp(track.uri) == seen
    assert time.process_time() - begun < 0.2  # s: 0.2 ms a song and stage; 0.02 measured
