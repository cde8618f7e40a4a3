"""Counted operations against torch's own counter; passes by objective."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.config import CODES, ModelConfig, ObjectiveConfig
from model.flops import Pace, backbone_flops, measured_peak, peak_flops, spared_flops, step_flops
from model.network import MaskPredictor

MODEL = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, head_dim=8, ffn=48, prefix_width=8, attention_dropout=0.0)


PROJECTION = 2 * 3 * 2 * 8 * MODEL.width  # of 3 prefixes: not worth a term


def test_a_forward_pass_has_the_operations_that_torch_counts() -> None:
    network = MaskPredictor(MODEL, rtd=False).eval()
    codes_BT = torch.zeros(3, 20, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network.hidden(codes_BT, codes_BT, torch.zeros(3, 2, 8))
    assert backbone_flops(MODEL, rows=3, frames=20) == counter.get_total_flops() - PROJECTION


def test_the_last_layer_leaves_out_what_nobody_asks_for() -> None:
    network = MaskPredictor(MODEL, rtd=False).eval()
    codes_BT, wanted_BT = torch.zeros(3, 20, dtype=torch.int64), torch.arange(20).expand(3, 20) % 3 == 0
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network.hidden(codes_BT, codes_BT, torch.zeros(3, 2, 8), wanted_BT=wanted_BT)
    left = backbone_flops(MODEL, 3, 20) - spared_flops(MODEL, 3, 20, float(wanted_BT.sum()))
    assert left == counter.get_total_flops() - PROJECTION
    assert 0.5 * backbone_flops(MODEL, 3, 20) < left < 0.75 * backbone_flops(MODEL, 3, 20)


@pytest.mark.parametrize(
    ("rtd", "passes"),
    [({"weight": 0.0}, 3), ({"mode": "second_pass"}, 6), ({"mode": "head_only"}, 4),
     ({"mode": "same_pass", "replace": "uniform"}, 3)],
)  # fmt: skip
def test_a_step_goes_forward_once_and_back_for_two(rtd: dict[str, object], passes: int) -> None:
    objective = ObjectiveConfig.model_validate({"rtd": rtd})
    head = 3 * 2 * MODEL.width * CODES * 7
    spared = 0.0 if objective.rtd.mode == "same_pass" and objective.rtd.weight else 3 * spared_flops(MODEL, 2, 16, 7)
    assert step_flops(MODEL, objective, 2, 16, masked=7) == passes * backbone_flops(MODEL, 2, 16) + head - spared


def test_pace_is_a_share_of_the_peak_or_nothing() -> None:
    objective = ObjectiveConfig.model_validate({"rtd": {"weight": 0.0}})
    done = step_flops(MODEL, objective, 4, 16, 9.0)
    assert Pace(MODEL, objective, 2, 16, done).told(2, 9.0, 4.0) == {"mfu": 0.25}
    assert Pace(MODEL, objective, 2, 16, 0.0).told(2, 9.0, 4.0) == {}


def test_a_cpus_peak_is_measured() -> None:
    assert 1e8 < measured_peak() < 1e14
    assert peak_flops(torch.device("cpu"), "no") > 0
