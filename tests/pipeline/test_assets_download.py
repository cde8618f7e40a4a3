"""A download is whole or not there: cuts are gone on from, another file is begun again, a refusal is one sentence."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from weights_server import Served, serving

from pipeline.assets.download import Patience, download, land, part_of
from pipeline.errors import BackendUnavailable

DATA = random.Random(1).randbytes(300_000)
HASTY = Patience(seconds=0.5, attempts=3, pause=0.01)


@pytest.fixture
def server() -> Iterator[Served]:
    with serving() as served:
        served.files["/a/w.bin"], served.tags["/a/w.bin"] = DATA, '"one"'
        yield served


def fetch(server: Served, target: Path, url: str = "/a/w.bin") -> bytes:
    download(server.url + url, target, {}, HASTY, lambda done, size: None)
    land(part_of(target), target)
    return target.read_bytes()


def test_a_file_arrives_whole_and_nothing_else_stays(server: Served, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "w.bin"
    download(f"{server.url}/a/w.bin", target, {}, HASTY, lambda done, size: seen.append((done, size)))
    assert not target.exists()
    land(part_of(target), target)
    assert target.read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["w.bin"]
    assert seen[-1] == (len(DATA), len(DATA))


def test_cut_connections_are_gone_on_from_where_they_ended(server: Served, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000, 1, 70_000, 2, 3]  # more cuts than attempts: each brought something
    assert fetch(server, tmp_path / "w.bin") == DATA
    assert [asked[1] for asked in server.asked] == [""] + [
        f"bytes={n}-" for n in (100_000, 150_000, 150_001, 220_001, 220_003, 220_006)
    ]


def test_a_later_call_goes_on_and_another_file_is_begun_again(server: Served, tmp_path: Path) -> None:
    server.cuts = [100_000, 0, 0, 0]
    with pytest.raises(BackendUnavailable, match="the 100000 bytes that came stay"):
        fetch(server, tmp_path / "w.bin")
    server.cuts = [50_000, 0, 0, 0]
    with pytest.raises(BackendUnavailable, match="the 150000 bytes that came stay"):
        fetch(server, tmp_path / "w.bin")
    changed = DATA[::-1]
    server.files["/a/w.bin"], server.tags["/a/w.bin"] = changed, '"two"'
    assert fetch(server, tmp_path / "w.bin") == changed


def test_a_shorter_file_in_place_of_a_longer_one_is_begun_again(server: Served, tmp_path: Path) -> None:
    server.cuts = [200_000, 0, 0, 0]
    with pytest.raises(BackendUnavailable):
        fetch(server, tmp_path / "w.bin")
    server.files["/a/w.bin"] = DATA[:1000]  # the same tag: a server that lies about it
    assert fetch(server, tmp_path / "w.bin") == DATA[:1000]


@pytest.mark.parametrize(("tag", "ranges"), [("", True), ('W/"weak"', True), ('"one"', False)])
def test_without_a_validator_or_ranges_it_begins_again(server: Served, tmp_path: Path, tag: str, ranges: bool) -> None:
    server.tags["/a/w.bin"], server.ranges, server.cuts = tag, ranges, [100_000]
    assert fetch(server, tmp_path / "w.bin") == DATA


def test_what_was_whole_already_is_not_sent_again(server: Served, tmp_path: Path) -> None:
    for _ in range(2):
        download(f"{server.url}/a/w.bin", tmp_path / "w.bin", {}, HASTY, lambda done, size: None)
    assert server.asked[-1][1] == f"bytes={len(DATA)}-"
    assert part_of(tmp_path / "w.bin").read_bytes() == DATA


def test_a_busy_server_is_asked_again(server: Served, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert fetch(server, tmp_path / "w.bin") == DATA


@pytest.mark.parametrize(
    ("status", "told"), [(401, "log in with"), (403, "its owner let in"), (404, "no such file"), (410, "410 Gone")]
)
def test_a_refusal_is_one_sentence_and_no_second_try(server: Served, tmp_path: Path, status: int, told: str) -> None:
    server.statuses = [status]
    with pytest.raises(BackendUnavailable, match=told):
        fetch(server, tmp_path / "w.bin")
    assert len(server.asked) == 1
    assert not list(tmp_path.iterdir())


def test_a_hub_that_keeps_silent_is_given_up(server: Served, tmp_path: Path) -> None:
    server.silent = True
    with pytest.raises(BackendUnavailable, match=r"no answer for 0.1 s, 2 times"):
        download(f"{server.url}/a/w.bin", tmp_path / "w.bin", {}, Patience(0.1, 2, 0.01), lambda done, size: None)
    assert not list(tmp_path.iterdir())


def test_nobody_there(tmp_path: Path) -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(BackendUnavailable, match="Connection refused"):
        download(f"{url}/w.bin", tmp_path / "w.bin", {}, HASTY, lambda done, size: None)


def test_a_secret_goes_to_the_hub_and_not_to_where_it_sends_us(server: Served, tmp_path: Path) -> None:
    server.files["/o/r/w.bin"] = DATA
    server.headers["X-Repo-Commit"] = "abc"
    secret = {"Authorization": "Bearer secret"}
    there = server.url.replace("127.0.0.1", "localhost")  # another origin than the one of the redirect
    told = download(f"{there}/o/r/resolve/main/w.bin", tmp_path / "w.bin", secret, HASTY, lambda done, size: None)
    assert told["X-Repo-Commit"] == "abc"
    assert [asked[2] for asked in server.asked] == ["Bearer secret", ""]
