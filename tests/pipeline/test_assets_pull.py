"""Pulling an asset: licence, hashes, mirrors, conversion, and what a backend is told when something is wrong."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save
from weights_server import Served, serving

from pipeline.assets.download import Patience
from pipeline.assets.known import ASSETS
from pipeline.assets.pull import Terms, install, pull, verify
from pipeline.assets.store import combined, held
from pipeline.assets.table import Asset, File, Hub, Manual, Package, Web
from pipeline.errors import BackendUnavailable

WEIGHTS = save({"w": torch.arange(6.0).reshape(2, 3)})
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
HASTY = Patience(0.5, 2, 0.01)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "store"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    with serving() as served:
        served.files["/base/sub/w.safetensors"], served.tags["/base/sub/w.safetensors"] = WEIGHTS, '"v1"'
        template = f"{served.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"  # HF_ENDPOINT, read at import
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served


def toy(monkeypatch: pytest.MonkeyPatch, server: Served, origin: object = None, **facts: object) -> Asset:
    """An asset of the table, for this test."""
    file = File("sub/w.safetensors", **{k: facts.pop(k) for k in ("size", "sha256", "md5", "git") if k in facts})  # type: ignore[arg-type]
    whole = {"licence": "MIT", "commercial": True, "about": "https://example.org", "files": (file,), **facts}
    asset = Asset("toy", "A toy's weights", origin or Web(f"{server.url}/base"), **whole)  # type: ignore[arg-type]
    monkeypatch.setitem(ASSETS, "toy", asset)
    return asset


def get(**terms: object) -> bool:
    return pull("toy", Terms(patience=HASTY, **terms), lambda done, size: None)  # type: ignore[arg-type]


def store(tmp_path: Path) -> list[str]:
    folder = tmp_path / "store" / "toy"
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != ".lock")


def test_pulled_once_held_by_its_hash(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server, size=len(WEIGHTS), sha256=DIGEST[:8])
    with pytest.raises(
        BackendUnavailable, match=r"A toy's weights \(toy\) is not on this machine; backline assets pull toy$"
    ):
        held("toy")
    assert get()
    mine = held("toy")
    assert mine.weights_sha256 == DIGEST
    assert mine.licence == "MIT"
    assert load_file(mine.tensors("sub/w.safetensors"))["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not get()  # nothing to do
    assert len(server.asked) == 1
    assert store(tmp_path) == ["receipt.json", "sub/w.safetensors"]
    assert verify("toy") == ""


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"size": 5}, f"has {len(WEIGHTS)} bytes, not the 5"),
        ({"sha256": "00112233"}, "not 00112233… as published"),
        ({"md5": "0" * 32}, "not the 00000000000000000000000000000000"),
        ({"git": "1" * 40}, "is not the file of the repository"),
    ],
)
def test_other_bytes_than_published_are_not_kept(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, object], told: str
) -> None:
    toy(monkeypatch, server, **facts)
    with pytest.raises(BackendUnavailable, match=told):
        get()
    assert store(tmp_path) in ([], ["sub/w.safetensors.tag"])
    with pytest.raises(BackendUnavailable, match="is not on this machine"):
        held("toy")


def test_md5_and_git_hashes_that_fit(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = hashlib.sha1(b"blob %d\0" % len(WEIGHTS) + WEIGHTS, usedforsecurity=False).hexdigest()
    toy(monkeypatch, server, md5=hashlib.md5(WEIGHTS, usedforsecurity=False).hexdigest(), git=blob)
    assert get()


def test_no_licence_accepted_nothing_asked(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server, licence="CC-BY-NC-4.0", commercial=False)
    with pytest.raises(
        BackendUnavailable, match=r"allows no commercial use; read https://example.org, then: .*--accept-licence"
    ):
        get()
    assert server.asked == []
    assert not (tmp_path / "store").exists()
    get(accept_licence=True)
    assert held("toy").licence == "CC-BY-NC-4.0 (non-commercial, accepted)"
    receipt = json.loads((tmp_path / "store" / "toy" / "receipt.json").read_text())
    assert receipt["accepted"] is True
    assert receipt["licence"] == "CC-BY-NC-4.0"


def test_the_hub(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server, Hub("who/what"))
    server.files["/who/what/sub/w.safetensors"] = WEIGHTS
    server.headers.update({"X-Linked-ETag": f'"{"0" * 64}"', "X-Repo-Commit": "c0ffee"})
    with pytest.raises(BackendUnavailable, match="announced by the hub"):
        get()
    server.headers["X-Linked-ETag"] = f'"{DIGEST}"'
    assert get()
    assert server.asked[0][0] == "/who/what/resolve/main/sub/w.safetensors"
    assert server.asked[0][2] == "Bearer secret"
    assert json.loads((tmp_path / "store" / "toy" / "receipt.json").read_text())["revision"] == "c0ffee"


@pytest.mark.parametrize(
    ("damage", "told"), [("cut", "it was cut off or replaced"), ("flip", "another SHA-256"), ("gone", "is missing")]
)
def test_a_damaged_file_is_named_and_mended_to_the_same_bytes(
    server: Served, monkeypatch: pytest.MonkeyPatch, damage: str, told: str
) -> None:
    toy(monkeypatch, server)
    get()
    path = held("toy").path("sub/w.safetensors")
    changed = {"cut": WEIGHTS[:-1], "flip": WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]), "gone": b""}[damage]
    path.write_bytes(changed) if changed else path.unlink()
    with pytest.raises(BackendUnavailable, match=f"{told}.*; backline assets pull toy"):
        held("toy")
    assert told in verify("toy") or damage == "flip"
    server.files["/base/sub/w.safetensors"] = save({"w": torch.zeros(1)})  # the publisher has another file now
    server.tags["/base/sub/w.safetensors"] = '"v2"'
    with pytest.raises(BackendUnavailable, match="is another file than the one first pulled"):
        get()
    server.files["/base/sub/w.safetensors"] = WEIGHTS
    assert get()
    assert held("toy").weights_sha256 == DIGEST


def test_a_flipped_bit_behind_an_old_time_is_found_by_verify(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server)
    get()
    path = held("toy").path("sub/w.safetensors")
    facts = path.stat()
    path.write_bytes(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    held("toy")  # trusts size and time: hashing 16 GB at every start would cost a minute
    assert "another SHA-256 than when it was pulled" in verify("toy")


def test_only_the_damaged_file_of_several_is_fetched_again(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/base/config.json"] = b"{}"
    toy(monkeypatch, server, files=(File("sub/w.safetensors"), File("config.json", format="other")))
    get()
    whole = held("toy").weights_sha256
    assert whole != DIGEST
    held("toy").path("config.json").unlink()
    server.asked.clear()
    get()
    assert [asked[0] for asked in server.asked] == ["/base/config.json"]
    assert held("toy").weights_sha256 == whole


def test_a_store_is_a_mirror_for_machines_without_a_network(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy(monkeypatch, server)
    with pytest.raises(BackendUnavailable, match="offline, and no mirror was named"):
        get(offline=True)
    get()
    server.asked.clear()
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "elsewhere"))
    with pytest.raises(BackendUnavailable, match=r"mirror .*empty has no toy/sub/w.safetensors"):
        get(offline=True, mirror=str(tmp_path / "empty"))
    assert get(offline=True, mirror=str(tmp_path / "store"))
    assert held("toy").weights_sha256 == DIGEST
    assert server.asked == []


def test_a_mirror_on_a_server(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server, Hub("who/what"))
    server.files["/mirror/toy/sub/w.safetensors"] = WEIGHTS
    assert get(offline=True, mirror=f"{server.url}/mirror")
    assert [asked[0] for asked in server.asked] == ["/mirror/toy/sub/w.safetensors"]


def test_by_hand(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server, Manual("fetch w.safetensors from its author's drive"))
    with pytest.raises(
        BackendUnavailable,
        match=r"fetch w.safetensors from its author's drive; put it into FOLDER/toy/sub/w.safetensors",
    ):
        get()
    (tmp_path / "hand" / "toy" / "sub").mkdir(parents=True)
    (tmp_path / "hand" / "toy" / "sub" / "w.safetensors").write_bytes(WEIGHTS)
    assert get(mirror=str(tmp_path / "hand"))


def test_packages_are_pips_business(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server, Package("no_such_package", "pip install such-a-package"))
    for asked in (get, lambda: held("toy")):
        with pytest.raises(BackendUnavailable, match="its package is not installed; pip install such-a-package"):
            asked()


def test_a_pickle_becomes_safetensors_once(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"cfg": {"n": 1}, "model": {"w": torch.ones(2)}}, tmp_path / "w.pt")
    server.files["/base/w.pt"] = (tmp_path / "w.pt").read_bytes()
    toy(monkeypatch, server, files=(File("w.pt", format="pickle", outer="model"),))
    get()
    mine = held("toy")
    assert mine.tensors("w.pt").name == "w.pt.safetensors"
    assert load_file(mine.tensors("w.pt"))["w"].tolist() == [1, 1]
    assert mine.weights_sha256 == hashlib.sha256(server.files["/base/w.pt"]).hexdigest()  # of what was published
    mine.tensors("w.pt").unlink()
    with pytest.raises(BackendUnavailable, match="is missing"):
        held("toy")
    server.asked.clear()
    get()
    assert server.asked == []  # made again of what is here
    assert held("toy").tensors("w.pt").is_file()


def test_a_pickle_of_something_else_leaves_nothing(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"other": torch.ones(2)}, tmp_path / "other.pt")
    for content, told in (
        (b"<html>busy</html>", "no whole file of torch tensors (invalid load key, '<'.)"),
        (b"", "no whole file of torch tensors (EOFError)"),
        ((tmp_path / "other.pt").read_bytes(), "has no 'model' in it: it is not the file that was published"),
    ):
        server.files["/base/w.pt"] = content
        toy(monkeypatch, server, files=(File("w.pt", format="pickle", outer="model"),))
        with pytest.raises(BackendUnavailable) as refusal:
            get()
        assert str(refusal.value).startswith("A toy's weights (toy): w.pt ")
        assert str(refusal.value).endswith(f"{told}; nothing of it was kept")
        assert store(tmp_path) in ([], ["w.pt.tag"])
        with pytest.raises(BackendUnavailable, match="is not on this machine"):
            held("toy")


def test_safetensors_cut_short_are_seen_where_nobody_tells_their_size(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy(monkeypatch, server)
    (tmp_path / "mirror" / "toy" / "sub").mkdir(parents=True)
    for share in (0, 4, len(WEIGHTS) // 2, len(WEIGHTS) - 1):
        (tmp_path / "mirror" / "toy" / "sub" / "w.safetensors").write_bytes(WEIGHTS[:share])
        with pytest.raises(
            BackendUnavailable, match=r"w\.safetensors is no whole safetensors file .*nothing of it was"
        ):
            get(mirror=str(tmp_path / "mirror"))
        assert store(tmp_path) == []


def test_a_disk_without_room(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server, size=10**18)
    with pytest.raises(BackendUnavailable, match=r"needs 1000000000.0 GB"):
        get()
    assert server.asked == []


def test_room_is_asked_for_what_lies_in_the_mirror(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy(monkeypatch, server, size=10**15)
    smaller = tmp_path / "mirror" / "toy" / "sub" / "w.safetensors"
    smaller.parent.mkdir(parents=True)
    smaller.write_bytes(WEIGHTS)
    with pytest.raises(BackendUnavailable, match=r"needs 1000000\.0 GB"):
        get()
    assert get(mirror=str(tmp_path / "mirror"), check=False)


def test_a_folder_that_can_not_be_written(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "file"))
    toy(monkeypatch, server)
    with pytest.raises(BackendUnavailable, match="can't be written: Not a directory"):
        get()


def test_two_pulls_at_once_fetch_once(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server)
    done: list[bool] = []
    threads = [threading.Thread(target=lambda: done.append(get())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert len(server.asked) == 1


def test_files_of_a_folder_are_installed_as_if_pulled(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy(monkeypatch, server, sha256="00", licence="CC-BY-NC-4.0", commercial=False)
    (tmp_path / "made" / "sub").mkdir(parents=True)
    (tmp_path / "made" / "sub" / "w.safetensors").write_bytes(WEIGHTS)
    with pytest.raises(BackendUnavailable, match="as published"):
        install("toy", tmp_path / "made")
    install("toy", tmp_path / "made", check=False)
    one = held("toy")
    assert one.licence.endswith("accepted)")
    assert combined([one]) == (DIGEST, one.licence)
    both, told = combined([one, one])
    assert both == hashlib.sha256(f"{DIGEST} {DIGEST}".encode()).hexdigest()
    assert told == f"toy {one.licence}; toy {one.licence}"


def test_a_receipt_that_is_no_receipt(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy(monkeypatch, server)
    get()
    (tmp_path / "store" / "toy" / "receipt.json").write_text("{")
    with pytest.raises(
        BackendUnavailable,
        match=r"\(toy\): .*receipt.json can't be read .*: remove it first; backline assets pull toy$",
    ):
        held("toy")
    with pytest.raises(BackendUnavailable, match=r"receipt.json can't be read .*: remove it first$"):
        get()


def test_no_such_asset() -> None:
    with pytest.raises(ValueError, match="no asset 'nothing'; `backline assets list` names them: muq"):
        held("nothing")
