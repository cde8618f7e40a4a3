"""Published pickles are read, never run."""

import pickle
import resource
import sys
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.assets.inert import convert, read
from pipeline.errors import BackendUnavailable
from pipeline.published import read_state


class Evil:
    """Its pickle makes a file when it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_the_evil_pickle_works_where_pickles_are_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "run")))
    assert (tmp_path / "run").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_beside_anything_else_come_and_nothing_runs(tmp_path: Path, zipped: bool) -> None:
    shared = torch.arange(10.0)
    content = {
        "args": Namespace(arch="wav2vec2"),
        "evil": Evil(tmp_path / "run"),
        "kinds": {1, 2},
        "model": OrderedDict(
            a=shared[2:4], b=shared[2:4], half=torch.ones(2, dtype=torch.float16), p=torch.nn.Parameter(torch.eye(2))
        ),
    }
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    convert(tmp_path / "w.pt", "model", tmp_path / "w.safetensors")
    found = load_file(tmp_path / "w.safetensors")
    assert set(found) == {"a", "b", "half", "p"}
    assert found["a"].tolist() == found["b"].tolist() == [2, 3]
    assert found["half"].dtype == torch.float16
    assert (tmp_path / "w.safetensors").stat().st_size < 1000
    assert not (tmp_path / "run").exists()


def test_the_head_of_an_old_format_file_runs_nothing(tmp_path: Path) -> None:
    """The first pickle of such a file is its magic number: a reader of its own would be a way in."""
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Evil(tmp_path / "run"), protocol=2))
    with pytest.raises(BackendUnavailable, match="no whole file of torch tensors"):
        convert(tmp_path / "w.pt", "", tmp_path / "w.safetensors")
    assert not (tmp_path / "run").exists()


def test_nested_keys_are_joined(tmp_path: Path) -> None:
    torch.save({"state": {"x": [torch.ones(1), torch.zeros(1)]}, "n": 3}, tmp_path / "w.pt")
    convert(tmp_path / "w.pt", "", tmp_path / "w.safetensors")
    assert set(load_file(tmp_path / "w.safetensors")) == {"state.x.0", "state.x.1"}
    convert(tmp_path / "w.pt", "state.x", tmp_path / "w.safetensors")
    assert set(load_file(tmp_path / "w.safetensors")) == {"0", "1"}


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    torch.save({"a": {"b": 1}}, tmp_path / "w.pt")
    with pytest.raises(BackendUnavailable, match="has no 'model' in it"):
        convert(tmp_path / "w.pt", "model", tmp_path / "w.safetensors")
    with pytest.raises(BackendUnavailable, match=r"has no tensors below 'a\.b'"):
        convert(tmp_path / "w.pt", "a.b", tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


def test_a_cut_file_is_no_file(tmp_path: Path) -> None:
    """Of either format, wherever it is cut: the old one's reader then raises nearly anything."""
    for zipped in (True, False):
        torch.save({"w": torch.ones(9)}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
        whole = (tmp_path / "w.pt").read_bytes()
        for end in range(0, len(whole), 7 if zipped else 1):
            (tmp_path / "w.pt").write_bytes(whole[:end])
            with pytest.raises(BackendUnavailable, match=r"no whole file of torch tensors \(.+\)$"):
                convert(tmp_path / "w.pt", "", tmp_path / "w.safetensors")
            with pytest.raises(BackendUnavailable, match=r"can't be read as weights \(.+\)"):
                read_state(tmp_path / "w.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_a_disk_that_takes_no_more_is_said(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(300_000)}, tmp_path / "w.pt")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(BackendUnavailable, match=r"w\.safetensors can't be written \(.+\); free some space"):
            convert(tmp_path / "w.pt", "", tmp_path / "w.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_no_module_of_the_file_is_imported(tmp_path: Path) -> None:
    head = b"\x80\x02cfractions\nFraction\nq\x00K\x01K\x02\x86q\x01R."
    was = sys.modules.pop("fractions", None)
    try:
        torch.save({"w": torch.ones(1), "x": 1}, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
        (tmp_path / "x.pt").write_bytes(head)
        with pytest.raises(BackendUnavailable):
            convert(tmp_path / "x.pt", "", tmp_path / "y")
        assert "fractions" not in sys.modules
    finally:
        if was is not None:
            sys.modules["fractions"] = was
    assert read(tmp_path / "w.pt")["x"] == 1
