"""Corruption, losses and likelihood against closed forms."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import CODES, MASK, PAD, ObjectiveConfig, RtdConfig
from model.diffusion import (
    corrupt,
    loss_weights,
    nll_masks,
    numerators,
    reduce,
    replace_masked,
    replace_visible,
    replacements,
    rtd_labels,
    rtd_losses,
    scatter_rows,
    token_losses,
)
from model.masking import draw_masks
from model.schedule import generator, mask_ratios

VOCABULARY, LENGTH = 3, 5
INV_T, MEAN = ObjectiveConfig(), ObjectiveConfig(loss="mean_masked")
ELBO = ObjectiveConfig(loss="elbo", mask_schedule="linear")
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(80)
PROGRESS, MEASURE = (NODES + 1) / 2, NODE_WEIGHTS / 2  # quadrature over Sobol progress r on 0..1


def all_masks(length: int) -> Tensor:
    return torch.tensor(list(itertools.product([False, True], repeat=length)))


def joint() -> Tensor:
    """A random p(x) over 3 ** 5 sequences."""
    p = torch.rand((VOCABULARY,) * LENGTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return p / p.sum()


def exact_conditionals(p: Tensor, x_T: Tensor, mask_T: Tensor) -> Tensor:
    """log p(x_i = v | visible) `[M, V]` of the masked frames."""
    visible = p[tuple(slice(None) if masked else int(code) for code, masked in zip(x_T, mask_T, strict=True))]
    axes = range(visible.ndim)
    marginals = [visible.sum(dim=[a for a in axes if a != axis]) if visible.ndim > 1 else visible for axis in axes]
    return (torch.stack(marginals) / visible.sum()).log() if marginals else torch.zeros(0, VOCABULARY)


def masked_sum(p: Tensor, x_T: Tensor, mask_T: Tensor, scale: float) -> float:
    """The project's own numerator for one mask, fed the exact conditionals."""
    loss_M = token_losses(exact_conditionals(p, x_T, mask_T), x_T[None], mask_T[None])
    return float(numerators(loss_M, mask_T[None], torch.tensor([scale], dtype=torch.float64)))


@pytest.mark.parametrize("x", [(0, 0, 0, 0, 0), (2, 1, 0, 1, 2), (1, 1, 2, 2, 0)])
def test_the_exact_estimator_is_the_negative_log_likelihood(x: tuple[int, ...]) -> None:
    """Every count once, each mask of a count averaged over all of that size: the estimator's expectation."""
    p, x_T = joint(), torch.tensor(x)
    plan = nll_masks(torch.ones(1, LENGTH, dtype=torch.bool), LENGTH, generator(0))
    estimate = 0.0
    for mask_T, weight in zip(plan.masks_NBT[:, 0], plan.weights_NB[:, 0], strict=True):
        same_size = [m for m in all_masks(LENGTH) if m.sum() == mask_T.sum()]
        estimate += sum(masked_sum(p, x_T, m, float(weight)) for m in same_size) / len(same_size)
    assert estimate == pytest.approx(-float(p[x].log()), abs=1e-6)


def test_the_exact_estimator_is_unbiased_as_drawn() -> None:
    p, x_T = joint(), torch.tensor([2, 1, 0, 1, 2])
    valid_BT = torch.ones(1, LENGTH, dtype=torch.bool)
    estimates = []
    for seed in range(600):
        plan = nll_masks(valid_BT, 3, generator(seed))
        pairs = zip(plan.masks_NBT[:, 0], plan.weights_NB[:, 0], strict=True)
        estimates.append(sum(masked_sum(p, x_T, mask_T, float(weight)) for mask_T, weight in pairs))
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(-float(p[2, 1, 0, 1, 2].log()), abs=4 * error)


def row_loss(config: ObjectiveConfig, loss_M: Tensor, mask_BT: Tensor, ratio: float) -> float:
    """Loss of a batch of one row whose frames are all valid."""
    weights = loss_weights(config, mask_BT, torch.ones_like(mask_BT), torch.tensor([ratio], dtype=torch.float64))
    return float(reduce(numerators(loss_M, mask_BT, weights.scale_B), weights.denominator_B))


def expected(config: ObjectiveConfig, loss_of_mask: Callable[[Tensor], Tensor], length: int) -> float:
    """Expectation of the row's loss over r (by quadrature, with the configured schedule) and over all masks."""
    total = 0.0
    for progress, measure in zip(PROGRESS, MEASURE, strict=True):
        t = math.cos(math.pi * progress / 2) if config.mask_schedule == "cosine" else 1 - progress
        for mask_T in all_masks(length):
            masked = int(mask_T.sum())
            chance = t**masked * (1 - t) ** (length - masked)
            total += measure * chance * row_loss(config, loss_of_mask(mask_T), mask_T[None], t)
    return total


@pytest.mark.parametrize("x", [(0, 0, 0, 0, 0), (2, 1, 0, 1, 2)])
def test_the_elbo_of_the_oracle_is_the_negative_log_likelihood_a_frame(x: tuple[int, ...]) -> None:
    p, x_T = joint(), torch.tensor(x)
    losses = {
        tuple(m.tolist()): token_losses(exact_conditionals(p, x_T, m), x_T[None], m[None]) for m in all_masks(LENGTH)
    }
    nats = -float(p[x].log()) / LENGTH
    assert expected(ELBO, lambda m: losses[tuple(m.tolist())], LENGTH) == pytest.approx(nats, abs=1e-6)


def all_equal(mask_T: Tensor) -> Tensor:
    """Token losses of the oracle of a constant sequence: it knows the code once it sees one frame."""
    masked = int(mask_T.sum())
    return torch.full((masked,), math.log(7) if masked == len(mask_T) else 0.0, dtype=torch.float64)


def closed_forms(length: int, nats: float) -> dict[str, float]:
    def ratio(above: float, below: float) -> float:
        return math.gamma(above) / (math.sqrt(math.pi) * math.gamma(below))

    return {
        "elbo": nats / length,
        "inv_t": nats * ratio(length / 2, (length + 1) / 2),
        "mean_masked": nats * ratio((length + 1) / 2, length / 2 + 1),
    }


@pytest.mark.parametrize("config", [ELBO, INV_T, MEAN], ids=lambda c: c.loss)
@pytest.mark.parametrize("length", [5, 7])
def test_each_weighting_has_its_own_value_on_the_all_equal_sequence(config: ObjectiveConfig, length: int) -> None:
    forms = closed_forms(length, math.log(7))
    value = expected(config, all_equal, length)
    assert value == pytest.approx(forms.pop(config.loss), abs=1e-6)
    assert min(abs(value - other) for other in forms.values()) > 0.02


@pytest.mark.parametrize("config", [ELBO, INV_T], ids=lambda c: c.loss)
def test_independent_uniform_codes_cost_log_v_under_either_weight(config: ObjectiveConfig) -> None:
    def uniform(mask_T: Tensor) -> Tensor:
        return torch.full((int(mask_T.sum()),), math.log(7), dtype=torch.float64)

    assert expected(config, uniform, 4) == pytest.approx(math.log(7), abs=1e-6)


@pytest.mark.parametrize("config", [ELBO, INV_T, MEAN], ids=lambda c: c.loss)
def test_drawn_ratios_and_masks_reach_the_closed_form(config: ObjectiveConfig) -> None:
    rows, length = 4096, 4
    valid_BT = torch.ones(rows, length, dtype=torch.bool)
    ratio_B = mask_ratios(0, 0, rows, config.mask_schedule).clamp(min=1e-9)
    mask_BT = draw_masks(valid_BT, ratio_B, [generator(0, i, "mask") for i in range(rows)])
    loss_M = torch.cat([all_equal(mask_T) for mask_T in mask_BT])
    weights = loss_weights(config, mask_BT, valid_BT, ratio_B)
    row_B = numerators(loss_M, mask_BT, weights.scale_B)
    if config.loss == "mean_masked":
        row_B = row_B / weights.denominator_B.clamp(min=1)
    error = float(row_B.std()) / math.sqrt(rows)
    assert float(row_B.mean()) == pytest.approx(closed_forms(length, math.log(7))[config.loss], abs=4 * error)


def ragged_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Masks, valid frames and ratios of six rows: a full one, shorter ones, one unmasked, one without a valid frame."""
    valid_BT = torch.arange(9)[None, :] < torch.tensor([9, 7, 3, 1, 9, 0])[:, None]
    ratio_B = torch.tensor([0.9, 0.3, 0.6, 1.0, 0.5, 0.5])
    mask_BT = draw_masks(valid_BT, ratio_B, [generator(0, row) for row in range(6)])
    mask_BT[4] = False
    return mask_BT, valid_BT, ratio_B


@pytest.mark.parametrize("config", [ELBO, INV_T, MEAN], ids=lambda c: c.loss)
def test_accumulated_micro_batches_equal_the_large_batch(config: ObjectiveConfig) -> None:
    mask_BT, valid_BT, ratio_B = ragged_batch()
    codes_BT = torch.randint(11, mask_BT.shape, generator=generator(1))
    weight = torch.randn(9, 11, generator=generator(2), dtype=torch.float64)

    def gradient(cuts: list[tuple[int, int]]) -> Tensor:
        leaf = weight.clone().requires_grad_()
        denominator = loss_weights(config, mask_BT, valid_BT, ratio_B).denominator_B.sum()
        for a, b in cuts:
            logits_MV = leaf[mask_BT[a:b].nonzero()[:, 1]]
            loss_M = token_losses(logits_MV, codes_BT[a:b], mask_BT[a:b])
            weights = loss_weights(config, mask_BT[a:b], valid_BT[a:b], ratio_B[a:b])
            reduce(numerators(loss_M, mask_BT[a:b], weights.scale_B), denominator).backward()
        assert leaf.grad is not None
        return leaf.grad

    whole = gradient([(0, 6)])
    assert whole.abs().max() > 0
    for cuts in ([(0, 2), (2, 4), (4, 6)], [(0, 5), (5, 6)], [(i, i + 1) for i in range(6)]):
        assert (gradient(cuts) - whole).abs().max() < 1e-12


def test_rows_count_by_what_they_hold() -> None:
    mask_BT, valid_BT, ratio_B = ragged_batch()
    assert loss_weights(INV_T, mask_BT, valid_BT, ratio_B).denominator_B.tolist() == [1, 1, 1, 1, 1, 0]
    assert loss_weights(MEAN, mask_BT, valid_BT, ratio_B).denominator_B.tolist() == mask_BT.sum(dim=1).tolist()
    scale_B = loss_weights(INV_T, mask_BT, valid_BT, ratio_B).scale_B
    assert scale_B.tolist() == pytest.approx([1 / 8.1, 1 / 2.1, 1 / 1.8, 1.0, 1 / 4.5, 0.0])


@pytest.mark.parametrize("config", [ELBO, INV_T, MEAN], ids=lambda c: c.loss)
def test_a_batch_that_masks_nothing_costs_zero_and_moves_nothing(config: ObjectiveConfig) -> None:
    mask_BT = torch.zeros(2, 4, dtype=torch.bool)
    logits_MV = torch.zeros(0, 5, requires_grad=True)
    weights = loss_weights(config, mask_BT, ~mask_BT, torch.tensor([0.1, 0.1]))
    loss_M = token_losses(logits_MV, torch.zeros(2, 4, dtype=torch.int64), mask_BT)
    loss = reduce(numerators(loss_M, mask_BT, weights.scale_B), weights.denominator_B)
    loss.backward()
    assert loss.item() == 0
    assert logits_MV.grad is not None


def test_label_smoothing_is_cross_entropys() -> None:
    logits_MV, codes_BT = torch.randn(3, 5, generator=generator(0)), torch.tensor([[4, 0, 2, 1]])
    mask_BT = torch.tensor([[True, False, True, True]])
    wanted_M = -0.9 * logits_MV.log_softmax(1)[range(3), [4, 2, 1]] - 0.1 * logits_MV.log_softmax(1).mean(1)
    assert torch.allclose(token_losses(logits_MV, codes_BT, mask_BT, 0.1), wanted_M)


def test_corruption_shows_mask_and_pad_and_nothing_of_what_they_hide() -> None:
    codes_BT = torch.tensor([[5, 6, 7, 8]])
    mask_BT, valid_BT = torch.tensor([[False, True, True, False]]), torch.tensor([[True, True, True, False]])
    assert corrupt(codes_BT, mask_BT, valid_BT).tolist() == [[5, MASK, MASK, PAD]]
    assert torch.equal(corrupt(codes_BT, mask_BT, valid_BT), corrupt(torch.tensor([[5, 0, 0, 0]]), mask_BT, valid_BT))


def test_rtd_labels_follow_equality_with_the_original_not_the_mask() -> None:
    codes_BT, shown_BT = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[3, 4, 9, 6]])
    assert rtd_labels(RtdConfig(), shown_BT, codes_BT).tolist() == [[1, 1, 0, 1]]
    assert rtd_labels(RtdConfig(mode="head_only"), shown_BT, codes_BT).tolist() == [[0, 0, 1, 0]]


def test_rtd_is_the_mean_over_valid_frames_and_blind_to_padding() -> None:
    judged_BT = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    logits_BT, labels_BT = torch.randn(3, 3, generator=generator(0)), torch.tensor([[1.0, 0, 1], [0, 1, 1], [0, 0, 0]])
    numerator_B, denominator_B = rtd_losses(logits_BT, labels_BT, judged_BT)
    wanted = F.binary_cross_entropy_with_logits(logits_BT[judged_BT], labels_BT[judged_BT])
    assert torch.allclose(reduce(numerator_B, denominator_B), wanted)
    garbage = rtd_losses(logits_BT.masked_fill(~judged_BT, 50.0), labels_BT, judged_BT)[0]
    assert torch.equal(garbage, numerator_B)


def test_replacements_are_the_likeliest_or_drawn_from_the_tempered_distribution() -> None:
    logits_MV = torch.tensor([[0.0, 2.0, 1.0, -torch.inf]]).expand(20_000, 4)
    assert (replacements(RtdConfig(), logits_MV, generator(0)) == 1).all()
    drawn_M = replacements(RtdConfig(replace="sample", temperature=2.0), logits_MV, generator(0))
    frequency_V = torch.bincount(drawn_M, minlength=4) / len(drawn_M)
    wanted_V = (logits_MV[0] / 2).softmax(0)
    assert ((frequency_V - wanted_V).abs() <= 4 * (wanted_V * (1 - wanted_V) / len(drawn_M)).sqrt()).all()
    uniform_M = replacements(RtdConfig(replace="uniform"), logits_MV, generator(0))
    assert 0 <= int(uniform_M.min()) < 10
    assert CODES - 10 < int(uniform_M.max()) < CODES


def test_only_masked_frames_are_replaced_before_the_second_pass() -> None:
    codes_BT, mask_BT = torch.tensor([[3, 4], [5, 6]]), torch.tensor([[False, True], [True, True]])
    assert replace_masked(codes_BT, mask_BT, torch.tensor([7, 8, 9])).tolist() == [[3, 7], [8, 9]]


def test_one_pass_replaces_a_share_of_the_visible_frames_only() -> None:
    config = RtdConfig(mode="same_pass", replace="uniform", share=0.3)
    valid_BT = torch.arange(4000)[None, :] < torch.tensor([4000, 3000])[:, None]
    mask_BT = draw_masks(valid_BT, torch.tensor([0.5, 0.5]), [generator(1), generator(2)])
    shown_BT = corrupt(torch.full(valid_BT.shape, 17), mask_BT, valid_BT)
    replaced_BT = replace_visible(config, shown_BT, mask_BT, valid_BT, [generator(3), generator(4)])
    visible_BT = valid_BT & ~mask_BT
    assert torch.equal(replaced_BT[~visible_BT], shown_BT[~visible_BT])
    assert float((replaced_BT != 17)[visible_BT].float().mean()) == pytest.approx(0.3, abs=0.035)
    alone_BT = replace_visible(config, shown_BT[1:, :3000], mask_BT[1:, :3000], valid_BT[1:, :3000], [generator(4)])
    assert torch.equal(alone_BT[0], replaced_BT[1, :3000])


def test_the_plan_stratifies_its_counts_and_weighs_them() -> None:
    valid_BT = torch.arange(100)[None, :] < torch.tensor([100, 60, 0])[:, None]
    plan = nll_masks(valid_BT, 20, generator(0))
    assert not (plan.masks_NBT & ~valid_BT).any()
    counts_NB = plan.masks_NBT.sum(dim=2)
    for draw, count in enumerate(counts_NB[:, 0].tolist()):
        assert 5 * draw < count <= 5 * (draw + 1)
    assert torch.allclose(plan.weights_NB[:, 1], 60 / (counts_NB[:, 1] * 20))
    assert not plan.weights_NB[:, 2].any()


def test_the_plans_masks_choose_their_frames_evenly() -> None:
    plan = nll_masks(torch.ones(1, 6, dtype=torch.bool), 3000, generator(0))
    hits_T = plan.masks_NBT[:, 0].double().mean(dim=0)
    assert hits_T.tolist() == pytest.approx([3.5 / 6] * 6, abs=4 * math.sqrt(0.25 / 3000))


def test_a_plan_without_draws_is_refused() -> None:
    with pytest.raises(ValueError, match="draws must be >= 1, got 0"):
        nll_masks(torch.ones(1, 3, dtype=torch.bool), 0, generator(0))


def test_scattered_values_return_to_their_frames() -> None:
    mask_BT = torch.tensor([[False, True, False], [True, True, False]])
    assert scatter_rows(torch.tensor([1.0, 2.0, 3.0]), mask_BT).tolist() == [[0, 1, 0], [2, 3, 0]]
