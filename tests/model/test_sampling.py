"""The sampler: exact counts, independent rows, and distributions known in closed form."""

import itertools
import math
from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.config import CODES, MASK, PAD, SamplerConfig
from model.sampling import (
    FREE,
    Predict,
    Ranked,
    entropies,
    filter_logits,
    plan_windows,
    sample,
    within_bound,
)
from model.schedule import generator

OPEN = SamplerConfig(top_k=0, top_p=1.0)  # no filter
ORDERED = OPEN.model_copy(update={"mask_temperature": 0.0})


def valid_rows(*lengths: int) -> Tensor:
    return torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]


def by_position(codes: int = 300) -> Predict:
    """Logits that depend on the row's own content and on the frame, never on the batch: like a real network's."""
    table_TV = torch.randn(512, codes, generator=generator(0)) * 3

    def predict(codes_BT: Tensor, masked_BT: Tensor, _: float) -> Tensor:
        known_B = torch.where(codes_BT < CODES, codes_BT, 0).sum(dim=1)
        rows, frames = masked_BT.nonzero(as_tuple=True)
        return table_TV[(frames + known_B[rows]) % 512]

    return predict


def constant(codes: int = 8) -> Predict:
    """Every code as likely everywhere: all confidences tie."""
    return lambda _, masked_BT, __: torch.zeros(int(masked_BT.sum()), codes)


def recorded(predict: Predict, seen: list[Tensor]) -> Predict:
    def wrapped(codes_BT: Tensor, masked_BT: Tensor, progress: float) -> Tensor | Iterable[Tensor]:
        seen.append(codes_BT.clone())
        return predict(codes_BT, masked_BT, progress)

    return wrapped


def masked_counts(seen: list[Tensor]) -> list[list[int]]:
    return [(codes_BT == MASK).sum(dim=1).tolist() for codes_BT in seen]


def lawful_counts(free: int, steps: int, gamma: Callable[[float], float]) -> list[int]:
    """Masked frames before each step, straight from the formula."""
    counts = [free]
    for i in range(steps - 1):
        wanted = math.floor(gamma((i + 1) / steps) * free)
        counts.append(min(counts[-1], max(1, min(counts[-1] - 1, wanted))))
    return counts


@pytest.mark.parametrize("predict", [by_position(), constant()], ids=["distinct", "tied"])
@pytest.mark.parametrize("mask_temperature", [0.0, 10.5])
def test_every_row_follows_its_own_schedule_exactly(predict: Predict, mask_temperature: float) -> None:
    config, lengths = SamplerConfig(steps=12, mask_temperature=mask_temperature), (97, 40, 5, 1)
    seen: list[Tensor] = []
    sample(recorded(predict, seen), valid_rows(*lengths), config, [1, 2, 3, 4])
    rows = [lawful_counts(n, 12, lambda p: math.cos(math.pi * p / 2)) for n in lengths]
    assert masked_counts(seen) == [list(step) for step in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    ("schedule", "gamma"),
    [("linear", lambda p: 1 - p), ("power:0.5", lambda p: (1 - p) ** 0.5), ((0.5, 0.5, 0.2, 0.0), None)],
)
def test_other_schedules_count_by_their_own_law(schedule: str | tuple[float, ...], gamma: object) -> None:
    seen: list[Tensor] = []
    sample(recorded(by_position(), seen), valid_rows(50), SamplerConfig(steps=4, schedule=schedule), [0])
    counts = [row[0] for row in masked_counts(seen)]
    assert counts == ([50, 25, 24, 10] if gamma is None else lawful_counts(50, 4, gamma))  # type: ignore[arg-type]


@pytest.mark.parametrize("confidence", ["sampled", "max"])
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_nothing_but_codes_comes_out_and_pad_beyond_the_end(confidence: str, temperature: float) -> None:
    config = SamplerConfig.model_validate({"steps": 5, "confidence": confidence, "temperature": temperature})
    valid_BT = valid_rows(30, 7, 0)
    codes_BT = sample(by_position(), valid_BT, config, [1, 2, 3])
    assert (codes_BT[valid_BT] < 300).all()
    assert (codes_BT[valid_BT] >= 0).all()
    assert (codes_BT[~valid_BT] == PAD).all()


def test_a_row_is_the_same_alone_and_in_a_batch() -> None:
    config = SamplerConfig(steps=9)
    together = sample(by_position(), valid_rows(60, 31, 8, 44), config, [5, 6, 7, 8])
    for row, (length, seed) in enumerate(zip((60, 31, 8, 44), (5, 6, 7, 8), strict=True)):
        alone = sample(by_position(), valid_rows(length), config, [seed])
        assert torch.equal(together[row, :length], alone[0])
    assert not torch.equal(together[0], sample(by_position(), valid_rows(60), config, [9])[0])


def test_settled_codes_are_never_reopened() -> None:
    seen: list[Tensor] = []
    codes_BT = sample(recorded(by_position(), seen), valid_rows(40, 25), SamplerConfig(steps=8), [1, 2])
    for before, after in itertools.pairwise([*seen, codes_BT]):
        settled = before != MASK
        assert torch.equal(before[settled], after[settled])


def test_fixed_codes_stay_and_only_free_frames_are_counted() -> None:
    fixed_BT = torch.full((3, 30), FREE)
    fixed_BT[0, 10:] = 12345
    fixed_BT[1] = torch.arange(30)
    seen: list[Tensor] = []
    codes_BT = sample(
        recorded(by_position(), seen), valid_rows(30, 30, 20), SamplerConfig(steps=6), [1, 2, 3], fixed_BT
    )
    assert (codes_BT[0, 10:] == 12345).all()
    assert torch.equal(codes_BT[1], fixed_BT[1])
    rows = [lawful_counts(n, 6, lambda p: math.cos(math.pi * p / 2)) for n in (10, 0, 20)]
    assert masked_counts(seen) == [list(step) for step in zip(rows[0], [0] * 6, rows[2], strict=True)]
    assert (seen[-1][:2] == fixed_BT[:2]).sum(dim=1).tolist() == [20, 30]


def test_the_network_is_left_alone_where_nothing_is_free() -> None:
    seen: list[Tensor] = []
    steps: list[tuple[int, int]] = []
    fixed_BT = torch.arange(6)[None, :]
    codes_BT = sample(
        recorded(constant(), seen),
        valid_rows(6),
        SamplerConfig(steps=3),
        [1],
        fixed_BT,
        lambda *done: steps.append(done),
    )
    assert torch.equal(codes_BT, fixed_BT)
    assert seen == []
    assert steps == [(3, 3)]


def test_logits_may_come_in_blocks_and_the_share_of_steps_done_is_told() -> None:
    whole, told = by_position(), []

    def in_blocks(codes_BT: Tensor, masked_BT: Tensor, progress: float) -> Iterable[Tensor]:
        told.append(progress)
        return iter(whole(codes_BT, masked_BT, progress).split(7))

    config = SamplerConfig(steps=4)
    wanted = sample(whole, valid_rows(40, 13), config, [1, 2])
    assert torch.equal(sample(in_blocks, valid_rows(40, 13), config, [1, 2]), wanted)
    assert told == [0, 0.25, 0.5, 0.75]


def oracle(p: Tensor) -> Predict:
    """Exact conditionals of the joint `p`, one axis a frame: log p(x_i = v | visible)."""
    length, codes = p.ndim, p.shape[0]
    states = list(itertools.product(range(codes + 1), repeat=length))  # `codes` stands for a mask
    table = torch.zeros(len(states), length, codes)
    for index, state in enumerate(states):
        part = p[tuple(slice(None) if code == codes else slice(code, code + 1) for code in state)]
        for frame, code in enumerate(state):
            if code == codes:
                table[index, frame] = part.sum(dim=[a for a in range(length) if a != frame]).log()
    place = (codes + 1) ** torch.arange(length - 1, -1, -1)

    def predict(codes_BT: Tensor, masked_BT: Tensor, _: float) -> Tensor:
        logits_BTV = table[(torch.where(masked_BT, codes, codes_BT) * place).sum(dim=1)]
        return logits_BTV[masked_BT]

    return predict


def histogram(p: Tensor, config: SamplerConfig, draws: int) -> Tensor:
    """Counts of `draws` samples, shaped like `p`."""
    codes_BT = sample(oracle(p), torch.ones(draws, p.ndim, dtype=torch.bool), config, range(draws))
    flat = (codes_BT * p.shape[0] ** torch.arange(p.ndim - 1, -1, -1)).sum(dim=1)
    return torch.bincount(flat, minlength=p.numel()).view(p.shape).double()


def chi_square_z(counts: Tensor, p: Tensor) -> float:
    """Chi-square as standard deviations above its mean."""
    wanted = p / p.sum() * counts.sum()
    cells = counts.numel() - 1
    return float((((counts - wanted) ** 2 / wanted).sum() - cells) / math.sqrt(2 * cells))


def test_one_code_a_step_draws_from_the_joint() -> None:
    p = torch.rand((3,) * 5, generator=generator(1), dtype=torch.float64) + 0.1
    steps = {"steps": 5, "schedule": "linear", "mask_temperature": 1e3}
    assert abs(chi_square_z(histogram(p, OPEN.model_copy(update=steps), 6000), p)) < 4


def test_one_step_draws_the_product_of_marginals() -> None:
    p = torch.tensor([[0.5, 0.0], [0.0, 0.5]], dtype=torch.float64)  # two bits that always agree
    counts = histogram(p, OPEN.model_copy(update={"steps": 1}), 4000)
    assert chi_square_z(counts, torch.full((2, 2), 0.25)) < 4
    assert float((counts / 4000 - p).abs().sum() / 2) == pytest.approx(0.5, abs=0.04)
    two_steps = histogram(p, OPEN.model_copy(update={"steps": 2}), 1000)
    assert two_steps[0, 1] + two_steps[1, 0] == 0


def kept_first(config: SamplerConfig, confidence_T: Tensor, seed: int) -> Tensor:
    """Frames that the first of two steps settles, when frame i's likelier code of two has `confidence_T[i]`."""
    logits_TV = torch.stack((confidence_T.log(), (1 - confidence_T).log()), dim=1)
    seen: list[Tensor] = []
    predict = recorded(lambda _, masked_BT, __: logits_TV[masked_BT[0]], seen)
    sample(predict, valid_rows(len(confidence_T)), config, [seed])
    return (seen[1][0] != MASK).nonzero().squeeze(1)


@pytest.mark.parametrize("confidence", ["sampled", "max"])
def test_without_noise_the_most_confident_frames_settle(confidence: str) -> None:
    confidence_T = torch.linspace(0.55, 0.95, 40)[torch.randperm(40, generator=generator(0))]
    config = ORDERED.model_copy(
        update={"steps": 2, "schedule": (0.6, 0.0), "temperature": 0.0, "confidence": confidence}
    )
    assert kept_first(config, confidence_T, 0).tolist() == sorted(confidence_T.topk(16).indices.tolist())


def test_large_noise_settles_any_frame_as_often() -> None:
    confidence_T = torch.linspace(0.05, 0.95, 10)
    config = OPEN.model_copy(update={"steps": 2, "schedule": (0.5, 0.0), "mask_temperature": 1e4})
    counts = torch.zeros(10, dtype=torch.float64)
    for seed in range(600):
        counts[kept_first(config, confidence_T, seed)] += 1
    assert abs(chi_square_z(counts, torch.ones(10))) < 4


@pytest.mark.parametrize("mask_temperature", [0.6, 2.0])
def test_noise_on_the_log_confidence_fades_with_the_steps_and_is_gumbels(mask_temperature: float) -> None:
    """Gumbel noise of size s on log c lets frame i settle first with probability c_i ** (1 / s) over the sum of all."""
    confidence_T = torch.tensor([0.95, 0.8, 0.55])
    logits_TV = torch.stack((confidence_T.log(), (1 - confidence_T).log()), dim=1)
    config = OPEN.model_copy(
        update={
            "steps": 5,
            "schedule": (1.0, 0.7, 0.4, 0.2, 0.0),
            "temperature": 0.0,
            "mask_temperature": mask_temperature,
        }
    )
    seen: list[Tensor] = []
    predict = recorded(lambda _, masked_BT, __: logits_TV[masked_BT.nonzero()[:, 1]], seen)
    sample(predict, torch.ones(4000, 3, dtype=torch.bool), config, range(4000))
    wanted_T = confidence_T.double() ** (1 / (mask_temperature * (1 - 1 / 5)))
    assert abs(chi_square_z((seen[1] != MASK).sum(dim=0).double(), wanted_T)) < 4
    second = (seen[1] == MASK)[:, 0] & (seen[1] == MASK)[:, 1] & (seen[2] != MASK).any(dim=1)
    counts = (seen[2][second][:, :2] != MASK).sum(dim=0).double()
    wanted_T = confidence_T[:2].double() ** (1 / (mask_temperature * (1 - 2 / 5)))
    assert abs(chi_square_z(counts, wanted_T)) < 4


MASKED = torch.tensor([[True, False, True, True, True], [False, True, False, True, True]])


def test_equal_scores_are_counted_not_thresholded() -> None:
    again_BT = Ranked.of(torch.zeros(7), MASKED).lowest(torch.tensor([3, 2]))
    assert again_BT.sum(dim=1).tolist() == [3, 2]
    assert not (again_BT & ~MASKED).any()


def test_frames_settle_while_their_entropy_without_the_largest_stays_within_the_bound() -> None:
    # best first: row 0 has 0.2, 0.3, 1.0, 0.1, so an excess of 0, 0.2, 0.5, 0.6; row 1 has 2.0, 0.5, 0.5: 0, 0.5, 1
    score_M = torch.tensor([1.0, 4.0, 2.0, 3.0, 0.0, 9.0, 5.0])
    entropy_M = torch.tensor([0.1, 0.2, 1.0, 0.3, 0.5, 2.0, 0.5])
    ranked = Ranked.of(score_M, MASKED)
    settled = {bound: within_bound(entropy_M, ranked, bound).tolist() for bound in (0.1, 0.25, 0.55, 0.7, 1.1)}
    assert settled == {0.1: [1, 1], 0.25: [2, 1], 0.55: [3, 2], 0.7: [4, 2], 1.1: [4, 3]}


def test_entropy_of_what_a_frame_is_drawn_from() -> None:
    candidates = filter_logits(torch.tensor([[0.0] * 8, [9.0] + [-90.0] * 7]), OPEN)
    assert entropies(candidates).tolist() == pytest.approx([math.log(8), 0], abs=1e-6)


def test_sure_frames_settle_at_once_and_unsure_ones_one_by_one() -> None:
    sure, unsure = torch.full((30, 8), -90.0), torch.zeros(12, 8)
    sure[:, 3] = 9.0
    logits_TV = torch.cat((sure, unsure))
    seen: list[Tensor] = []
    predict = recorded(lambda _, masked_BT, __: logits_TV[masked_BT.nonzero()[:, 1]], seen)
    config = ORDERED.model_copy(update={"steps": 40, "entropy_bound": 0.5})
    told: list[tuple[int, int]] = []
    codes_BT = sample(predict, valid_rows(42, 30), config, [1, 2], None, lambda *done: told.append(done))
    # one unsure frame joins the sure ones, for the largest entropy is free
    assert masked_counts(seen) == [[42, 30], *[[left, 0] for left in range(11, 0, -1)]]
    assert told[-1] == (40, 40)
    assert (codes_BT[:, :30] == 3).all()
    assert (codes_BT[0] < 8).all()


def test_steps_bound_the_adaptive_sampler_and_rows_stay_apart() -> None:
    config = SamplerConfig(steps=5, entropy_bound=0.3)
    seen: list[Tensor] = []
    together = sample(recorded(by_position(), seen), valid_rows(60, 31), config, [5, 6])
    assert len(seen) == 5
    assert (together[0] < 300).all()
    assert torch.equal(together[1, :31], sample(by_position(), valid_rows(31), config, [6])[0])


def test_a_bound_of_nothing_draws_from_the_joint() -> None:
    p = torch.rand((3,) * 4, generator=generator(2), dtype=torch.float64) + 0.1
    config = OPEN.model_copy(update={"steps": 4, "entropy_bound": 1e-9})
    assert abs(chi_square_z(histogram(p, config, 4000), p)) < 4


@given(st.integers(1, 500), st.integers(2, 120), st.data())
def test_windows_cover_the_song_and_overlap(frames: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, window - 1))
    windows = plan_windows(frames, window, overlap)
    assert windows[0][0] == 0
    assert windows[-1][1] == frames
    assert all(stop - start == min(window, frames) for start, stop in windows)
    assert all(a[0] < b[0] <= a[1] - overlap for a, b in itertools.pairwise(windows))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(constant(), valid_rows(4, 4), SamplerConfig(), [1]), "2 rows need one seed each, got 1"),
        (lambda: sample(constant(), valid_rows(4), SamplerConfig(), [1], torch.zeros(1, 3)), "must have the shape"),
        (
            lambda: sample(constant(), valid_rows(2), SamplerConfig(), [1], torch.tensor([[0, MASK]])),
            r"-1 \(free\) or 0..16383, got 16384",
        ),
        (
            lambda: sample(lambda _, m, __: torch.zeros(m.numel() + 1, 4), valid_rows(2), SamplerConfig(), [1]),
            r"\[2, V\] logits, one row a masked frame, got 3 rows",
        ),
        (
            lambda: sample(lambda _, m, __: torch.zeros(m.numel(), 16_385), valid_rows(2), SamplerConfig(), [1]),
            "16384 codes at most, got 16385",
        ),
        (lambda: plan_windows(10, 4, 4), r"within 1..3 \(window 4\), got 4"),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
