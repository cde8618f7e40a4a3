"""Hits by mask ratio add up; areas from histograms are those of all pairs."""

import pytest
import torch

from model.tally import LOGITS, RATIOS, SIZE, area, tally, told


def test_hits_are_counted_at_their_rows_ratio() -> None:
    mask_BT = torch.tensor([[True, True, False], [True, False, False], [False, False, True]])
    ratio_B = torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64)
    found = tally(torch.tensor([True, False, True, False]), mask_BT, ratio_B)
    assert found.shape == (SIZE,)
    assert found[:RATIOS].tolist() == [1, 0, 1, 0, 0]
    assert found[RATIOS : 2 * RATIOS].tolist() == [2, 0, 1, 0, 1]
    assert told(found + found) == {
        "masked_accuracy_0_20": 0.5, "masked_accuracy_40_60": 1.0, "masked_accuracy_80_100": 0.0,
    }  # fmt: skip


def test_the_discriminator_is_scored_by_balanced_accuracy_and_area() -> None:
    generator = torch.Generator().manual_seed(0)
    original_BT = torch.rand(4, 500, generator=generator) < 0.8
    judged_BT = torch.rand(4, 500, generator=generator) < 0.9
    logits_BT = torch.randn(4, 500, generator=generator) + original_BT.float()
    nothing = torch.zeros(4, 500, dtype=torch.bool)
    found = told(tally(torch.zeros(0), nothing, torch.ones(4), logits_BT, original_BT, judged_BT))
    high, low = logits_BT[judged_BT & original_BT], logits_BT[judged_BT & ~original_BT]
    pairs = (high[:, None] > low[None]).double().mean()
    assert found["rtd_auc"] == pytest.approx(float(pairs), abs=0.005)
    halves = ((high >= 0).double().mean() + (low < 0).double().mean()) / 2
    assert found["rtd_balanced_accuracy"] == pytest.approx(float(halves))
    assert found["rtd_replaced_share"] == pytest.approx(len(low) / (len(low) + len(high)))
    assert not any("masked" in name for name in found)


@pytest.mark.parametrize(("better", "expected"), [(0, 0.5), (1, 1.0), (-1, 0.0)])
def test_area_of_equal_and_parted_histograms(better: int, expected: float) -> None:
    low, high = torch.zeros(LOGITS), torch.zeros(LOGITS)
    low[10] = 3
    high[10 + better] = 7
    assert area(low, high) == expected


def test_nothing_counted_is_nothing_told() -> None:
    assert told(torch.zeros(SIZE, dtype=torch.float64)) == {}
