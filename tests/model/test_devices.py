"""What an accelerate config may ask for; several processes are tested in test_gloo.py."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from model.config import TrainingConfig
from model.devices import accelerator_for, random_state, set_random_state
from model.whole import load_optimizer, scalar, whole
from pipeline.errors import BadInput


@pytest.mark.parametrize("version", ["1", ""])
def test_fsdp_1_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", version)
    with pytest.raises(BadInput, match="set fsdp_version: 2"):
        accelerator_for(TrainingConfig(), tmp_path)


def test_a_tracker_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"training\.log_with 'wandbb' .*\(.*tensorboard.*\): install") as caught:
        accelerator_for(TrainingConfig(log_with="wandbb"), tmp_path)
    assert caught.value.reason == "log_with"


def test_random_state_comes_back() -> None:
    state = random_state()
    first = torch.rand(3)
    set_random_state(state)
    assert torch.equal(torch.rand(3), first)


def test_an_optimisers_state_comes_back_whole() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.square().sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    kept = deepcopy(whole(optimizer.state_dict()))  # as a file would: the optimizer goes on in place
    other = torch.nn.Parameter(weight.detach().clone())
    fresh = torch.optim.AdamW([other], lr=0.1)
    load_optimizer(fresh, kept)
    for parameter in (weight, other):
        parameter.grad = torch.full((3,), 2.0)
    optimizer.step()
    fresh.step()
    assert torch.equal(weight, other)
    assert scalar(torch.tensor(2.0)) == scalar(2.0) == 2.0
