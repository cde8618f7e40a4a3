"""Schedules by formula; one Sobol stream, however it is cut."""

import math
from itertools import pairwise

import pytest
import torch
from torch.quasirandom import SobolEngine

from model.schedule import BLOCK, clamp_ratios, generator, mask_ratios, remask_ratio


@pytest.mark.parametrize(
    ("schedule", "law"),
    [
        ("cosine", lambda p: math.cos(math.pi * p / 2)),
        ("linear", lambda p: 1 - p),
        ("sqrt", lambda p: (1 - p) ** 0.5),
        ("cubic", lambda p: (1 - p) ** 3),
        ("power", lambda p: (1 - p) ** 2),
        ("power:1.5", lambda p: (1 - p) ** 1.5),
    ],
)
def test_remask_ratio_follows_its_law_down_to_nothing(schedule: str, law: object) -> None:
    ratios = [remask_ratio(schedule, (i + 1) / 60) for i in range(60)]
    assert ratios == pytest.approx([law((i + 1) / 60) for i in range(60)])  # type: ignore[operator]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(0, abs=1e-15)


def test_a_list_gives_its_own_ratio_to_each_step() -> None:
    ratios = [0.9, 0.7, 0.7, 0.31, 0.3, 0.1, 0.0]
    assert [remask_ratio(ratios, (i + 1) / 7) for i in range(7)] == ratios


@pytest.mark.parametrize("schedule", ["cos", "linear:2", "power:x"])
def test_an_unknown_schedule_is_refused(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"cosine|could not convert"):
        remask_ratio(schedule, 0.5)


def test_progress_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="progress must be"):
        remask_ratio("cosine", 0.0)


def test_the_stream_is_torchs_scrambled_sobol_sequence() -> None:
    engine = SobolEngine(1, scramble=True, seed=5)
    drawn = engine.draw(BLOCK + 100, dtype=torch.float64).squeeze(1)
    assert torch.equal(mask_ratios(5, 0, BLOCK + 100, "linear"), 1 - drawn)
    assert torch.equal(mask_ratios(5, 0, BLOCK + 100), torch.cos(math.pi / 2 * drawn))


def test_slices_of_ranks_and_restarts_join_to_the_one_stream() -> None:
    whole = mask_ratios(1, 0, 2 * BLOCK + 300)
    cuts = [0, 1, 40, BLOCK - 1, BLOCK, BLOCK + 7, 2 * BLOCK + 300]
    parts = [mask_ratios(1, a, b - a) for a, b in pairwise(cuts)]
    assert torch.equal(torch.cat(parts), whole)
    assert mask_ratios(1, 77, 0).shape == (0,)
    assert not torch.equal(mask_ratios(2, 0, 100), whole[:100])


def test_batch_means_of_the_stream_vary_far_less_than_independent_draws() -> None:
    batch_means = mask_ratios(0, 0, 64 * 64).view(64, 64).mean(dim=1)
    spread_of_independent_draws = math.sqrt(0.5 - (2 / math.pi) ** 2) / math.sqrt(64)
    assert float(batch_means.std()) < spread_of_independent_draws / 10
    assert float(batch_means.mean()) == pytest.approx(2 / math.pi, abs=1e-3)


def test_drawing_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    mask_ratios(3, 10_000, 5)
    generator(1, "a")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_ratios_are_clamped_to_a_frame_of_the_rows_own_length() -> None:
    clamped = clamp_ratios(torch.tensor([0.0, 0.0, 0.5, 0.0]), torch.tensor([50, 4096, 10, 0]))
    assert clamped.tolist() == pytest.approx([1 / 50, 1e-3, 0.5, 1.0])


def test_powers_and_lists_follow_their_law_between_the_ends() -> None:
    left = mask_ratios(5, 0, 200, "linear")
    assert torch.allclose(mask_ratios(5, 0, 200, "square"), left**2)
    assert torch.allclose(mask_ratios(5, 0, 200, "power:1.5"), left**1.5)
    assert torch.allclose(mask_ratios(5, 0, 200, (0.75, 0.5, 0.25, 0.0)), left)
    assert torch.allclose(mask_ratios(5, 0, 200, (0.2, 0.0)), torch.where(left > 0.5, 1.6 * left - 0.6, 0.4 * left))


def test_an_unknown_mask_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="none of cosine"):
        mask_ratios(0, 0, 1, "cosinus")
    with pytest.raises(ValueError, match="start and count"):
        mask_ratios(0, -1, 1)


def test_generators_differ_by_every_part_and_repeat() -> None:
    def first(*parts: int | str) -> float:
        return float(torch.rand((), generator=generator(*parts)))

    assert first(1, 2, "mask") == first(1, 2, "mask")
    assert len({first(1, 2, "mask"), first(1, 2, "crop"), first(2, 1, "mask"), first(12, "mask")}) == 4
