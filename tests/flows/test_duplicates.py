"""A library in which songs lie twice, once cut and encoded anew: a real build finds the copies and leaves them out."""

from pathlib import Path

import pytest
import soundfile
from small_library import SETTINGS, rows_of, write_manifest
from typer.testing import CliRunner

from flows.build_dataset import BuildParameters, build_dataset
from flows.cli.main import commands
from flows.work import open_build
from pipeline.audio import decode, resample
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.ledger import Ledger
from pipeline.records.sharding import read_manifest, read_shard
from pipeline.records.verify import verify_root

RATE = 44_100  # Hz, of the copies
COPIED = ("test", "train")  # splits of the songs that lie twice


def copy_of(song: Path, place: Path, start: float, level: float) -> Path:
    """An mp3 without the first seconds; `level` 0.72 is 112 kbit/s, 0.9 is 56."""
    audio = resample(decode(str(song)), RATE)
    frames = audio.samples.T[round(start * RATE) :]
    soundfile.write(place, frames, RATE, format="MP3", compression_level=level, bitrate_mode="CONSTANT")
    return place


@pytest.mark.slow  # a build of four songs through every real stage
@pytest.mark.timeout(900)
def test_cut_and_encoded_copies_are_found_and_left_out_and_share_their_songs_split(
    prefect: None, library: Path, tmp_path: Path
) -> None:
    songs = rows_of(library)[:4]
    first = {split: next(row for row in songs if row["split"] == split)["path"] for split in COPIED}
    copies = {
        "test": copy_of(Path(first["test"]), tmp_path / "copy-test.mp3", 2.3, 0.72),
        "train": copy_of(Path(first["train"]), tmp_path / "copy-train.mp3", 0.8, 0.9),
    }
    manifest = write_manifest(tmp_path / "library.csv", [*songs, *({"path": str(place)} for place in copies.values())])
    build = BuildParameters(recipe="demo", library=str(manifest), root=str(tmp_path / "root"), overrides=SETTINGS)
    result = build_dataset(build)

    context = open_build(build)
    tracks = {row.uri: row for row in Catalog(context.root).read(0)}
    keys = {
        sample.info.key.partition("-")[0]
        for shard in read_manifest(context.root / "datasets" / "demo").shards
        for sample in read_shard(context.root / "datasets" / "demo" / shard.file, shard)
    }
    assert result.dataset is not None
    assert keys == {tracks[row["path"]].track_id for row in songs}
    for split, place in copies.items():
        copied: CatalogRow = tracks[str(place)]
        assert context.left_out(copied) == "duplicate"
        assert context.split(copied) == split
        told = {stage: row for stage, _, row in Ledger(context.root).story(copied.track_id)}
        assert (told["selection"].status, told["selection"].reason) == ("rejected", "duplicate")
        assert not {"separation", "tokenization"} & told.keys()
        assert tracks[first[split]].track_id[:8] in why(context.root, place)
    assert verify_root(context.root) == []


def why(root: object, song: Path) -> str:
    told = CliRunner().invoke(commands, ["why", "--root", str(root), str(song)], env={"COLUMNS": "2000"})
    assert told.exit_code == 0, told.output
    return told.output
