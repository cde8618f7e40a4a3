"""The data plane's bench at tiny size: both sides see the same codes, and the intervals are what they say."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.bench.dataplane import SPLIT, compare, members, ratio, read_ours, read_plain, song, to_json, write_plain
from flows.bench.ledger_scan import scan
from flows.cli.bench import commands
from model.shards import ShardSamples
from pipeline.records.sharding import write_manifest, write_shard

# webdataset 1.0.2 leaves the tars that it read to the garbage collector
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_both_read_the_same_codes(tmp_path: Path) -> None:
    songs = [song(number, 2.0) for number in range(3)]
    sidecar = write_shard(tmp_path, SPLIT, 0, songs, "bench")
    write_manifest(tmp_path, "bench", "bench", [sidecar], {})
    codes = sum(one.vocal.size + one.accompaniment.size for one in songs)
    assert read_ours(tmp_path) == read_plain([str(tmp_path / sidecar.file)]) == codes


def test_our_reader_reads_what_webdataset_wrote(tmp_path: Path) -> None:
    songs = [song(number, 2.0) for number in range(3)]
    tar = tmp_path / f"{SPLIT}-000000-00000000.tar"
    write_plain(tar, [members(one) for one in songs])
    listed = {"split": SPLIT, "file": tar.name, "bytes": tar.stat().st_size, "samples": 3}
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 1, "shards": [listed]}))
    read = list(ShardSamples(tmp_path, SPLIT))
    assert [one.to_files() for one in read] == [one.to_files() for one in songs]


def test_both_kinds_of_work_are_compared(tmp_path: Path) -> None:
    read, write = compare(tmp_path, samples=2, shards=2, seconds=2.0, rounds=3)
    assert (read.what, read.samples, write.what, write.samples) == ("read", 4, "write", 2)
    assert read.tokens == 2 * write.tokens == 4 * 6 * 51  # a voice and five accompaniments
    for compared in (read, write):
        assert compared.cpu.low <= compared.cpu.mean <= compared.cpu.high
        assert json.loads(to_json(compared))["passed"] == (compared.cpu.low >= compared.demanded)


def test_a_ratio_is_the_geometric_mean_with_students_interval() -> None:
    found = ratio([(1.0, 2.0), (1.0, 4.0), (1.0, 8.0)])
    half = 4.302653 * math.log(2) / math.sqrt(3)  # t of 2 degrees of freedom at 97.5 %, deviation log 2
    assert found.mean == pytest.approx(4.0)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((math.log(4) - half, math.log(4) + half))


def test_a_ledger_is_written_and_every_row_of_it_read(tmp_path: Path) -> None:
    found = scan(tmp_path, 600)
    assert (found.rows, found.parts, found.passed) == (600, 3, True)
    assert 0 < found.again_cpu < found.first_cpu
    slow = replace(found, rows=140_000, first_cpu=2.1)
    assert (slow.passed, replace(slow, rows=600).passed) == (False, True)


def test_strict_fails_where_a_figure_is_missed(tmp_path: Path) -> None:
    words = ["dataplane", "--samples", "1", "--shards", "1", "--seconds", "1", "--rounds", "2", "--json", "--strict"]
    result = CliRunner().invoke(commands, [*words, "--ledger-rows", "300", "--root", str(tmp_path)])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["what"] for line in lines] == ["read", "write", "ledger scan"]
    assert result.exit_code == (0 if all(line["passed"] for line in lines) else 1)
    assert list(tmp_path.iterdir()) == []
