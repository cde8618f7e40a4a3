"""Published weights: every misfit is named, and nothing in a file is run."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import BackendUnavailable
from pipeline.published import below, load_strictly, read_state, renamed, weight_norm_names


def state() -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


@pytest.mark.parametrize("outer", [(), ("model",), ("state", "net")])
def test_a_pickle_is_read_from_under_its_keys(tmp_path: Path, outer: tuple[str, ...]) -> None:
    content: object = state() | {"epoch": 3}
    for key in reversed(outer):
        content = {key: content}
    torch.save(content, tmp_path / "w.pt")
    network = nn.Linear(3, 2)
    load_strictly(network, read_state(tmp_path / "w.pt", *outer), "w.pt")
    assert torch.equal(network.weight, state()["weight"])
    assert torch.equal(network.bias, state()["bias"])


def test_safetensors_have_no_outer_keys(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "w.safetensors")
    assert read_state(tmp_path / "w.safetensors", "model").keys() == state().keys()


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch sprung",)


def test_a_pickle_with_code_in_it_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": state(), "trap": Trap()}, tmp_path / "w.pt")
    with pytest.raises(BackendUnavailable, match=r"w\.pt can't be read as weights"):
        read_state(tmp_path / "w.pt", "model")
    assert not (tmp_path / "sprung").exists()


def test_files_that_are_missing_cut_or_something_else(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="is missing; `backline assets pull`"):
        read_state(tmp_path / "none.pt")
    torch.save({"model": state()}, tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("cut.pt", "empty.safetensors"):
        with pytest.raises(BackendUnavailable, match=f"{name} can't be read as weights"):
            read_state(tmp_path / name)
    with pytest.raises(BackendUnavailable, match="no state_dict in it"):
        read_state(tmp_path / "w.pt", "state_dict")


def test_misfits_are_counted_and_named() -> None:
    wrong = {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}
    with pytest.raises(BackendUnavailable) as told:
        load_strictly(nn.Linear(3, 2), wrong, "x.pt")
    message = "x.pt does not fit Linear: 1 missing: bias; 1 unexpected: extra; "
    assert str(told.value) == message + "1 of another shape: weight [3, 3] (not [2, 3])"


def test_names() -> None:
    assert below({"a.b": torch.ones(1), "c": torch.ones(1)}, "a.").keys() == {"b"}
    assert renamed(state(), str.upper).keys() == {"WEIGHT", "BIAS"}
    names = ["conv.weight_g", "conv.weight_v", "conv.bias"]
    halves = ["conv.parametrizations.weight.original0", "conv.parametrizations.weight.original1", "conv.bias"]
    assert [weight_norm_names(name) for name in names] == halves
