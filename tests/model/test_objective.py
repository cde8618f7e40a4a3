"""One step's gradient: whatever way it is split; and what replaced-token detection adds to it."""

import math
from dataclasses import replace

import pytest
import torch
from synthetic_dataset import song
from torch import Tensor

from model.config import ModelConfig, ObjectiveConfig, RtdConfig
from model.data import Batch, Drawing, MicroBatches, RowSource, Slicing
from model.objective import Objective, denominators
from model.schedule import generator
from model.tally import LOGITS, RATIOS

TINY = ModelConfig(layers=2, width=16, heads=2, kv_heads=1, head_dim=8, ffn=32, prefix_width=8, attention_dropout=0.0)
MODES = ["second_pass", "head_only", "same_pass"]


def batches(rows: int, count: int) -> list[Batch]:
    """The same rows whatever their split; songs of unequal length, some shorter than the crop."""
    songs = [song(f"s{i}", 20 + 9 * i, seed=i) for i in range(4)]
    source = RowSource(songs, Drawing(0, 0, 32, "slice", 0.5))
    data = MicroBatches(source, Slicing(0, 0, rows, 0, 1, ObjectiveConfig()))
    return [data[i] for i in range(count)]


def settings(**changes: object) -> ObjectiveConfig:
    return ObjectiveConfig.model_validate({"scope": "global", **changes})


def gradients(config: ObjectiveConfig, parts: list[Batch]) -> dict[str, Tensor]:
    """Of the step that these micro-batches make up, float64."""
    objective = Objective(TINY, config).double()
    for name, parameter in objective.named_parameters():  # the same values whether there is a discriminator or not
        torch.nn.init.normal_(parameter, std=0.1, generator=generator(name))
    totals = [denominators(config, part) for part in parts]
    masked, replaced = (sum(total[i] for total in totals) for i in (0, 1))
    for part in parts:
        sums = objective(part)
        (sums.masked_loss / masked + config.rtd.weight * sums.replaced_loss / replaced).backward()
    return {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("loss", "schedule"), [("inv_t", "cosine"), ("mean_masked", "cosine"), ("elbo", "linear")])
@pytest.mark.parametrize("mode", MODES)
def test_accumulation_equals_the_large_batch(loss: str, schedule: str, mode: str) -> None:
    replace = "uniform" if mode == "same_pass" else "sample"
    config = settings(loss=loss, mask_schedule=schedule, rtd={"mode": mode, "replace": replace})
    large, small = gradients(config, batches(8, 1)), gradients(config, batches(2, 4))
    assert large.keys() == small.keys()
    for name, gradient in large.items():
        torch.testing.assert_close(gradient, small[name], rtol=1e-9, atol=1e-12)


def backbone(gradient: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in gradient.items() if "rtd_head" not in name}


def test_second_pass_reaches_the_backbone_and_head_only_does_not() -> None:
    parts = batches(4, 1)
    without = gradients(settings(rtd=RtdConfig(weight=0.0)), parts)
    head_only = gradients(settings(rtd=RtdConfig(mode="head_only")), parts)
    second_pass = gradients(settings(rtd=RtdConfig(mode="second_pass")), parts)
    assert all(torch.equal(backbone(head_only)[name], value) for name, value in without.items())
    assert float(head_only["network.rtd_head.weight"].abs().sum()) > 0
    assert not torch.equal(second_pass["network.lm.norm.weight"], without["network.lm.norm.weight"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("replace_by", ["argmax", "sample"])
def test_a_masked_target_reaches_no_input_of_any_pass(mode: str, replace_by: str) -> None:
    """Nor any logit: those are a function of the inputs alone."""
    config = settings(rtd={"mode": mode, "replace": "uniform" if mode == "same_pass" else replace_by})
    torch.manual_seed(0)
    objective, (batch,) = Objective(TINY, config).eval(), batches(4, 1)
    other = replace(batch, accompaniment_BT=torch.where(batch.mask_BT, 4321, batch.accompaniment_BT))
    seen: list[Tensor] = []
    objective.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].clone()))
    passes = 1 if mode == "same_pass" else 2
    for one in (batch, other):
        objective(one)
    assert len(seen) == 2 * passes
    assert not torch.equal(batch.accompaniment_BT, other.accompaniment_BT)
    for mine, theirs in zip(seen[:passes], seen[passes:], strict=True):
        assert torch.equal(mine, theirs)


def test_without_weight_there_is_no_discriminator() -> None:
    config = settings(rtd=RtdConfig(weight=0.0))
    assert not any("rtd" in name for name, _ in Objective(TINY, config).named_parameters())
    assert float(Objective(TINY, config)(batches(2, 1)[0]).replaced_loss) == 0


def test_one_pass_judges_the_visible_codes_alone() -> None:
    """A mask is plainly no original: it would be told for nothing."""
    (batch,) = batches(8, 1)
    config = settings(rtd={"mode": "same_pass", "replace": "uniform"})
    visible_BT = batch.valid_BT & ~batch.mask_BT
    assert float(denominators(config, batch).replaced) == int(visible_BT.sum()) < int(batch.valid_BT.sum())
    objective = Objective(TINY, config)
    assert objective.network.rtd_head is not None
    torch.nn.init.zeros_(objective.network.rtd_head.weight)  # says 0.5 of every code
    assert float(objective(batch).replaced_loss.detach()) == pytest.approx(
        int(visible_BT.sum()) * math.log(2), rel=1e-5
    )


def test_every_row_of_one_pass_gets_wrong_codes_of_its_own() -> None:
    (batch,) = batches(2, 1)
    no_BT = torch.zeros_like(batch.mask_BT)
    same = replace(batch, mask_BT=no_BT, valid_BT=~no_BT, accompaniment_BT=no_BT + 7, padded=False)
    objective = Objective(TINY, settings(rtd={"mode": "same_pass", "replace": "uniform", "share": 0.5}))
    heard: list[Tensor] = []
    objective.network.register_forward_pre_hook(lambda _, given: heard.append(given[1]))
    objective(same)
    first_T, second_T = heard[0]
    assert bool((first_T != 7).any())
    assert not torch.equal(first_T != 7, second_T != 7)
    both_T = (first_T != 7) & (second_T != 7)
    assert float((first_T == second_T)[both_T].float().mean()) < 0.5


@pytest.mark.parametrize(("mode", "half"), [("second_pass", 1), ("head_only", 0)])
def test_the_tally_is_high_for_originals_whatever_the_labels_say(mode: str, half: int) -> None:
    (batch,) = batches(8, 1)
    objective = Objective(TINY, settings(rtd={"mode": mode}))
    assert objective.network.rtd_head is not None
    torch.nn.init.constant_(objective.network.rtd_head.bias, 4.0)  # says 1: original, or as released replaced
    counts = objective(batch).counts
    replaced, original = torch.split(counts, [2 * RATIOS, LOGITS, LOGITS])[1:]
    judged = (replaced + original).view(2, -1).sum(dim=1)  # logits below and above 0
    assert judged[half] == judged.sum() == int(batch.valid_BT.sum())


def test_label_smoothing_reaches_the_loss_with_and_without_logits() -> None:
    (batch,) = batches(4, 1)
    found = []
    for smoothing, replace_by in ((0.0, "argmax"), (0.2, "argmax"), (0.2, "sample")):  # a draw needs logits
        torch.manual_seed(0)
        objective = Objective(TINY, settings(label_smoothing=smoothing, rtd={"replace": replace_by})).double()
        torch.nn.init.normal_(objective.network.to_logits.weight, std=1.0)
        found.append(float(objective(batch).masked_loss.detach()))
    assert found[1] == pytest.approx(found[2], rel=1e-6)
    assert abs(found[1] - found[0]) > 1e-3 * found[0]


def test_sums_count_what_the_batch_holds() -> None:
    (batch,) = batches(8, 1)
    config = settings()
    sums = Objective(TINY, config)(batch)
    assert int(sums.masked) == int(batch.mask_BT.sum())
    assert float(denominators(config, batch).masked) == 8
    assert float(denominators(config, batch).replaced) == int(batch.valid_BT.sum())
