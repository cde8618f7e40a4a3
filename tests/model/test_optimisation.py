"""Decay groups, the moving average in closed form, and layers that recompute or are compiled: the same gradient."""

import os
import shutil
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_network import SMALL, inputs

from model.config import StageConfig
from model.network import MaskPredictor
from model.optimisation import WeightMean, adamw, compile_each, recompute

STAGE = StageConfig(name="s", split="s", crop_tokens=8, steps=1, weight_decay=0.3)


def predictor(dropout: float = 0.0) -> MaskPredictor:
    torch.manual_seed(0)
    return MaskPredictor(SMALL.model_copy(update={"attention_dropout": dropout}), rtd=True).double()


def gradients(network: MaskPredictor) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    logits_MV, rtd_BT, _ = network(**inputs(), masked_BT=torch.ones(2, 24, dtype=torch.bool), judge=True)
    (logits_MV.square().sum() + rtd_BT.square().sum()).backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def test_everything_decays_or_the_matrices_alone() -> None:
    network = predictor()
    everything, matrices = adamw(network, STAGE), adamw(network, STAGE.model_copy(update={"decay": "matrices"}))
    assert [group["weight_decay"] for group in everything.param_groups] == [0.3]
    assert [group["weight_decay"] for group in matrices.param_groups] == [0.3, 0.0]
    assert sum(len(group["params"]) for group in matrices.param_groups) == len(list(network.parameters()))
    decayed = {id(p) for p in matrices.param_groups[0]["params"]}
    spared = {name for name, p in network.named_parameters() if id(p) not in decayed}
    assert {"voc_embed.weight", "acc_embed.weight", "clamp_proj.bias", "rtd_head.bias", "lm.norm.weight"} <= spared
    assert not spared & {"to_logits.weight", "clamp_proj.weight", "lm.layers.0.mlp.up_proj.weight"}


@given(decay=st.floats(0, 0.99), values=st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_the_mean_of_weights_is_the_closed_form(decay: float, values: list[float]) -> None:
    first, *steps = [torch.tensor([value], dtype=torch.float64) for value in values]
    mean = WeightMean(decay, {"w": first})
    for step in steps:
        mean.add({"w": step})
    n = len(steps)
    wanted = decay**n * first + sum((1 - decay) * decay ** (n - k) * step for k, step in enumerate(steps, start=1))
    assert torch.allclose(mean.mean["w"], wanted, atol=1e-9)


def test_recomputed_layers_give_the_same_gradient_under_dropout() -> None:
    plain, again = predictor(dropout=0.2), predictor(dropout=0.2)
    recompute(again.lm.layers)
    wanted, found = gradients(plain), gradients(again)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def with_compiler(test: Callable[..., None]) -> Callable[..., None]:
    """Slow, for a C++ compiler; torch's warns about itself."""
    missing = shutil.which("c++") is None and os.environ.get("CI") != "true"
    test = pytest.mark.skipif(missing, reason="torch.compile needs a C++ compiler")(test)
    return pytest.mark.slow(pytest.mark.filterwarnings("ignore")(test))


@with_compiler
def test_compiled_layers_give_the_same_gradient_and_keep_their_names() -> None:
    plain, compiled = predictor(), predictor()
    compile_each(compiled.lm.layers)
    wanted, found = gradients(plain), gradients(compiled)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-9) for name in wanted)


@with_compiler
def test_any_number_of_wanted_rows_is_compiled_twice_at_most() -> None:
    """Bernoulli masks leave another number in every step: a graph for each would be compiled for ever."""
    plain, compiled = predictor(), predictor()
    compile_each(compiled.lm.layers)
    torch._dynamo.utils.counters.clear()
    graphs = []
    for count in range(3, 15):
        masked_BT = torch.arange(24) < torch.tensor([[count], [2 * count - 5]])
        answers = []
        for network in (plain, compiled):
            network.zero_grad()
            network(**inputs(), masked_BT=masked_BT).logits_MV.square().sum().backward()
            answers.append(network.lm.layers[0].mlp.up_proj.weight.grad.clone())
        torch.testing.assert_close(*answers, rtol=1e-9, atol=1e-9)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[-1] <= 3  # all layers but the last; the last, and the last of any number
    assert graphs[-1] == graphs[2]
