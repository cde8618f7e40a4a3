"""The model learns what can be learned and nothing else: sequences whose laws are known in closed form.

A sticky Markov chain, and accompaniment = f(vocal) + noise; each network is small, its head as wide as the alphabet.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from model import diffusion
from model.config import ModelConfig, ObjectiveConfig, RtdConfig
from model.data import Batch
from model.head import CodeHead
from model.masking import draw_masks
from model.objective import Objective, denominators
from model.schedule import clamp_ratios, generator, mask_ratios

STATES, FRAMES, ROWS, STEPS = 6, 32, 48, 260
STAY = 0.8  # of the chain
TRUE = 0.85  # share of frames whose code is f(vocal)
HELD_OUT, DRAWS = 96, 12
MODEL = ModelConfig(
    layers=2,
    width=48,
    heads=4,
    kv_heads=4,
    head_dim=12,
    ffn=96,
    prefix_width=4,
    attention_dropout=0.0,
    rope_theta=100.0,
)
CAUSAL = MODEL.model_copy(update={"kind": "autoregressive"})


@dataclass(frozen=True, slots=True)
class Songs:
    """Codes `[N, FRAMES]` below `STATES`."""

    vocal: Tensor
    accompaniment: Tensor


def chains(count: int, seed: int) -> Songs:
    """A chain that stays with probability STAY and else jumps to one of the others; the vocal says nothing."""
    rng = np.random.default_rng(seed)
    codes = np.zeros((count, FRAMES), np.int64)
    codes[:, 0] = rng.integers(STATES, size=count)
    for frame in range(1, FRAMES):
        jump = rng.integers(1, STATES, size=count) * (rng.random(count) > STAY)
        codes[:, frame] = (codes[:, frame - 1] + jump) % STATES
    return Songs(torch.zeros(count, FRAMES, dtype=torch.int64), torch.from_numpy(codes))


def chain_nats(songs: Songs) -> Tensor:
    """-log p of each sequence."""
    stays = (songs.accompaniment[:, 1:] == songs.accompaniment[:, :-1]).sum(dim=1)
    jumps = FRAMES - 1 - stays
    return math.log(STATES) - stays * math.log(STAY) - jumps * math.log((1 - STAY) / (STATES - 1))


ANSWER = torch.tensor([0, 0, 0, 1, 1, 2])  # f: its values are not equally frequent, so that the marginal says something


def pairs(count: int, seed: int, shuffled: bool = False) -> Songs:
    """Independent uniform vocal codes, and f of them or, now and then, any code."""
    rng = np.random.default_rng(seed)
    vocal = torch.from_numpy(rng.integers(STATES, size=(count, FRAMES)))
    noise = torch.from_numpy(rng.integers(STATES, size=(count, FRAMES)))
    told = torch.from_numpy(rng.random((count, FRAMES)) < TRUE)
    songs = Songs(vocal, torch.where(told, ANSWER[vocal], noise))
    return Songs(songs.vocal[torch.from_numpy(rng.permutation(count))], songs.accompaniment) if shuffled else songs


def conditional() -> Tensor:
    """log p(accompaniment | vocal), `[vocal, accompaniment]`."""
    p = torch.full((STATES, STATES), (1 - TRUE) / STATES)
    p[torch.arange(STATES), ANSWER] += TRUE
    return p.log()


def marginal() -> Tensor:
    return conditional().exp().mean(dim=0).log()


def batch(songs: Songs, rows: Tensor, mask_BT: Tensor, ratio_B: Tensor, seeds: tuple[str, ...]) -> Batch:
    valid_BT = torch.ones(len(rows), FRAMES, dtype=torch.bool)
    return Batch(
        vocal_BT=songs.vocal[rows], accompaniment_BT=songs.accompaniment[rows],
        prefix_BPW=torch.zeros(len(rows), 2, MODEL.prefix_width), dropped_BP=torch.ones(len(rows), 2, dtype=torch.bool),
        valid_BT=valid_BT, mask_BT=mask_BT, ratio_B=ratio_B, padded=False, row_seeds=seeds, keys=seeds,
        reference_impossible=0,
    )  # fmt: skip


def trained(songs: Songs, model: ModelConfig, loss: str = "elbo") -> Objective:
    """The objective after STEPS steps; a step of `elbo` draws its masks as training does."""
    causal = model.kind == "autoregressive"
    config = ObjectiveConfig(
        loss="inv_t" if causal else loss, mask_schedule=(1.0,) if causal else "linear", rtd=RtdConfig(weight=0.0)
    )
    torch.manual_seed(0)
    objective = Objective(model, config)
    objective.network.to_logits = CodeHead(model.width, STATES)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=4e-3, weight_decay=0.0, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS, pct_start=0.1)
    pick = generator("rows")
    for step in range(STEPS):
        rows = torch.randint(len(songs.vocal), (ROWS,), generator=pick)
        frames_B = torch.full((ROWS,), FRAMES)
        ratio_B = clamp_ratios(mask_ratios(0, step * ROWS, ROWS, config.mask_schedule), frames_B, 0.05)
        valid_BT = torch.ones(ROWS, FRAMES, dtype=torch.bool)
        mask_BT = draw_masks(valid_BT, ratio_B, [generator(step, row) for row in range(ROWS)])
        part = batch(songs, rows, mask_BT, ratio_B, tuple(f"{step} {row}" for row in range(ROWS)))
        (objective(part).masked_loss / denominators(config, part).masked.float()).backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return objective.eval()


@torch.no_grad()
def nats(objective: Objective, songs: Songs) -> Tensor:
    """-log p of each sequence by the exact estimator, `[N]`: an upper bound in the mean."""
    valid_BT = torch.ones(len(songs.vocal), FRAMES, dtype=torch.bool)
    plan = diffusion.nll_plan(objective.model, valid_BT, DRAWS, generator("plan"))
    total_B = torch.zeros(len(songs.vocal))
    for mask_BT, weight_B in zip(plan.masks_NBT, plan.weights_NB, strict=True):
        shown_BT = diffusion.visible(objective.model, songs.accompaniment, mask_BT, valid_BT)
        part = batch(songs, torch.arange(len(songs.vocal)), mask_BT, weight_B, ())
        logits_MV = objective.network(
            songs.vocal, shown_BT, part.prefix_BPW, None, part.dropped_BP, mask_BT
        ).logits_MV  # fmt: skip
        total_B += diffusion.numerators(
            diffusion.token_losses(logits_MV, songs.accompaniment, mask_BT), mask_BT, weight_B
        )
    return total_B


@cache
def true_pairs() -> Objective:
    return trained(pairs(2000, seed=1), MODEL)


def close_above(found: Tensor, truth: Tensor, share: float = 0.05) -> None:
    """Within a share of the truth of the same sequences, and not below it by more than 4 standard errors."""
    gap = found - truth
    error = float(gap.std()) / math.sqrt(len(gap))
    assert float(gap.mean()) < share * float(truth.mean())
    assert float(gap.mean()) > -4 * error


@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", [MODEL, pytest.param(CAUSAL, marks=pytest.mark.slow)], ids=lambda m: m.kind)
def test_a_sticky_chain_is_learned_to_its_true_likelihood(model: ModelConfig) -> None:
    held_out = chains(HELD_OUT, seed=2)
    found = nats(trained(chains(2000, seed=1), model), held_out)
    close_above(found, chain_nats(held_out))
    assert float(found.mean()) < 0.7 * FRAMES * math.log(STATES), "far below independent codes"


@pytest.mark.timeout(900)
def test_what_the_vocal_tells_is_learned_to_the_conditional_likelihood() -> None:
    held_out = pairs(HELD_OUT, seed=2)
    truth = -conditional()[held_out.vocal, held_out.accompaniment].sum(dim=1)
    close_above(nats(true_pairs(), held_out), truth)
    assert float(truth.mean()) < 0.75 * float(-marginal()[held_out.accompaniment].sum(dim=1).mean())


@pytest.mark.timeout(900)
def test_shuffled_pairs_teach_the_marginal() -> None:
    held_out = pairs(HELD_OUT, seed=2)
    found = nats(trained(pairs(2000, seed=1, shuffled=True), MODEL), held_out)
    close_above(found, -marginal()[held_out.accompaniment].sum(dim=1))


@pytest.mark.timeout(900)
def test_a_wrong_vocal_costs_the_mismatched_cross_entropy() -> None:
    """Trained on true pairs, tested on shuffled ones: -log p(accompaniment | another's vocal), above the marginal."""
    mismatched = pairs(HELD_OUT, seed=2, shuffled=True)
    found = nats(true_pairs(), mismatched)
    truth = -conditional()[mismatched.vocal, mismatched.accompaniment].sum(dim=1)
    assert float(found.mean()) == pytest.approx(float(truth.mean()), rel=0.05)
    assert float(found.mean()) > 1.1 * float(-marginal()[mismatched.accompaniment].sum(dim=1).mean())
