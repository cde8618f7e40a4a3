"""The demo's manifest says of every song what its library said."""

from pathlib import Path

from flows.demo import write_manifest
from pipeline.records.library import Source, scan_library


def test_manifest_reads_back_as_it_was_written(tmp_path: Path) -> None:
    sources = [
        Source(str(tmp_path / 'a "quoted", song.wav'), "test", "An artist", "folk, calm", "CC0-1.0", "", ""),
        Source("https://songs.example/b.mp3"),
        Source(str(tmp_path / "c.flac"), vocal=str(tmp_path / "v.flac"), accompaniment=str(tmp_path / "a.flac")),
    ]
    assert scan_library(str(write_manifest(tmp_path / "library.csv", sources))) == sources
