"""The head's chunked loss: value and gradients of the plain way, in every precision, and the memory it leaves out."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model import head
from model.head import CodeHead, Target

M, D, V = 37, 12, 50


def case(dtype: torch.dtype = torch.float64, rows: int = M) -> tuple[CodeHead, Tensor, Target]:
    torch.manual_seed(0)
    layer = CodeHead(D, V).to(dtype)
    hidden_MD = torch.randn(rows, D, dtype=dtype, requires_grad=True)
    return layer, hidden_MD, Target(torch.randint(V, (rows,)), torch.rand(rows))


def plain(layer: CodeHead, hidden_MD: Tensor, target: Target) -> Tensor:
    loss_M = F.cross_entropy(
        layer(hidden_MD).float() if hidden_MD.dtype != torch.float64 else layer(hidden_MD),
        target.codes_M,
        reduction="none",
        label_smoothing=target.label_smoothing,
    )
    return (loss_M * target.weight_M.to(loss_M)).sum()


@pytest.mark.parametrize("chunk", [1, 10, 37, 512])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_the_plain_way(
    chunk: int, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head, "CHUNK", chunk)
    layer, hidden_MD, target = case()
    target = target._replace(label_smoothing=smoothing)
    wanted = torch.autograd.grad(3 * plain(layer, hidden_MD, target), (hidden_MD, layer.weight))
    scored = layer(hidden_MD, target)
    found = torch.autograd.grad(3 * scored.loss, (hidden_MD, layer.weight))
    assert scored.loss.item() == pytest.approx(plain(layer, hidden_MD, target).item(), rel=1e-12)
    assert torch.equal(scored.likeliest_M, layer(hidden_MD).argmax(dim=-1))
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours - theirs).abs().max() < 1e-12


def test_under_autocast_it_multiplies_as_autocast_does_and_sums_in_float32() -> None:
    layer, hidden_MD, target = case(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = plain(layer, hidden_MD, target)
        scored = layer(hidden_MD, target)
    assert scored.loss.dtype == torch.float32
    assert scored.loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    theirs = torch.autograd.grad(wanted, (hidden_MD, layer.weight))
    ours = torch.autograd.grad(scored.loss, (hidden_MD, layer.weight))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, other, rtol=0.05, atol=0.02)


def test_no_masked_frame_costs_nothing_and_teaches_nothing() -> None:
    layer, hidden_MD, target = case(rows=0)
    scored = layer(hidden_MD, target)
    scored.loss.backward()
    assert scored.loss.item() == 0
    assert layer.weight.grad is not None
    assert not layer.weight.grad.any()


def test_without_gradients_there_are_none() -> None:
    layer, hidden_MD, target = case()
    with torch.no_grad():
        scored = layer(hidden_MD, target)
    assert not scored.loss.requires_grad
    assert scored.loss.item() == pytest.approx(plain(layer, hidden_MD, target).item(), rel=1e-12)


def test_without_a_target_it_is_a_linear_layer() -> None:
    layer, hidden_MD, _ = case()
    assert torch.equal(layer(hidden_MD), F.linear(hidden_MD, layer.weight))
    assert list(layer.state_dict()) == ["weight"]
