"""Flow matching: the integrators on a field known in closed form, the loss, padding, seeds, and what latents travel."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_dataset import song, with_latents
from test_network import SMALL
from torch import Tensor

from model.config import ModelConfig, ObjectiveConfig, RtdConfig, SamplerConfig
from model.data import Batch, Drawing, MicroBatches, RowSource, Slicing
from model.flow import FlowObjective, FlowPredictor, draws, integrate, play, waves
from model.objective import denominators
from pipeline.errors import BadInput

L = 6
EVERY_FRAME = ObjectiveConfig(mask_schedule=(1.0,), rtd=RtdConfig(weight=0.0))


def flowing(**given: object) -> ModelConfig:
    return ModelConfig.model_validate({**SMALL.model_dump(), "kind": "flow", "latent_width": L, **given})


def built(std: float = 0.2, **given: object) -> FlowPredictor:
    torch.manual_seed(0)
    return FlowPredictor(flowing(init_std=std, **given)).double().eval()


MEAN, SPREAD = 1.5, 0.4


def gaussian_field(x: Tensor, time: float) -> Tensor:
    """The exact velocity for songs drawn from N(MEAN, SPREAD^2): E[noise - song | x]."""
    variance = (1 - time) ** 2 * SPREAD**2 + time**2
    off = x - (1 - time) * MEAN
    return off * (time - (1 - time) * SPREAD**2) / variance - MEAN


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_integrators_carry_noise_to_the_gaussian_it_stands_for_at_their_order(solver: str, order: int) -> None:
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    errors = []
    for steps in (40, 80):
        config = SamplerConfig.model_validate({"steps": steps, "solver": solver})
        errors.append(float((integrate(gaussian_field, noise, config) - (MEAN + SPREAD * noise)).abs().max()))
    assert errors[1] < 0.05 / order**3
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.25)


def test_every_step_is_told() -> None:
    told: list[tuple[int, int]] = []
    integrate(gaussian_field, torch.zeros(2, 1), SamplerConfig(steps=3), lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def rows(count: int = 4) -> Batch:
    """Songs of unequal length, some shorter than the crop."""
    songs = [with_latents(song(f"s{i}", 20 + 9 * i, seed=i, width=SMALL.prefix_width), L) for i in range(4)]
    source = RowSource(songs, Drawing(0, 0, 32, "slice", 0.5, latents=True))
    return MicroBatches(source, Slicing(0, 0, count, 0, 1, EVERY_FRAME))[0]


def test_batches_carry_the_latents_of_their_crops() -> None:
    batch = rows()
    assert batch.vocal_latent_BTL is not None
    assert batch.accompaniment_latent_BTL is not None
    assert batch.vocal_latent_BTL.shape == (4, 32, L)
    assert torch.equal(batch.mask_BT, batch.valid_BT), "every frame is learned from"
    for latent, codes in (
        (batch.vocal_latent_BTL, batch.vocal_BT), (batch.accompaniment_latent_BTL, batch.accompaniment_BT),
    ):  # fmt: skip
        assert torch.equal(latent[..., 0][batch.valid_BT], (codes % 100).float()[batch.valid_BT])
        assert not latent[~batch.valid_BT].any()


@pytest.mark.parametrize("given", [{}, {"layout": "prefix"}, {"pack": True}, {"null": "learned"}], ids=str)
def test_padding_changes_no_velocity(given: dict[str, Any]) -> None:
    network, batch = built(**given), rows()
    assert batch.vocal_latent_BTL is not None
    assert batch.accompaniment_latent_BTL is not None
    time_B = torch.linspace(0.1, 0.9, 4, dtype=torch.float64)
    together = network(
        batch.vocal_latent_BTL, batch.accompaniment_latent_BTL, time_B, batch.prefix_BPW, batch.valid_BT,
        batch.dropped_BP,
    )  # fmt: skip
    for row, length in enumerate(batch.valid_BT.sum(dim=1).tolist()):
        one = slice(row, row + 1)
        alone = network(
            batch.vocal_latent_BTL[one, :length], batch.accompaniment_latent_BTL[one, :length], time_B[one],
            batch.prefix_BPW[one], None, batch.dropped_BP[one],
        )  # fmt: skip
        assert (together[row, :length] - alone[0]).abs().max() < 1e-10


def test_the_loss_is_the_mean_squared_error_of_the_velocity() -> None:
    torch.manual_seed(0)
    objective, batch = FlowObjective(flowing(), EVERY_FRAME).double().eval(), rows()
    torch.nn.init.zeros_(objective.network.to_velocity.weight)
    torch.nn.init.constant_(objective.network.to_velocity.bias, 0.7)  # says 0.7 everywhere
    seen: list[Tensor] = []
    objective.network.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[1:3]))
    sums = objective(batch)
    song_BTL = batch.accompaniment_latent_BTL
    assert song_BTL is not None
    time_B, noise_BTL = draws(batch.row_seeds, song_BTL)
    t_B11 = time_B[:, None, None]
    torch.testing.assert_close(seen[0].float(), (1 - t_B11) * song_BTL + t_B11 * noise_BTL, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen[1].float(), time_B)
    error_BT = (0.7 - (noise_BTL - song_BTL)).square().mean(dim=-1)
    wanted = sum(float(error_BT[row][batch.valid_BT[row]].mean()) for row in range(4))
    assert float(sums.masked_loss.detach()) == pytest.approx(wanted, rel=1e-5)
    assert float(denominators(EVERY_FRAME, batch).masked) == 4


def test_a_row_draws_the_same_noise_and_time_in_any_batch() -> None:
    like = torch.zeros(3, 5, L)
    (time_B, noise_B), (one, alone) = draws(("a", "b", "c"), like), draws(("b",), like[:1])
    assert torch.equal(noise_B[1], alone[0])
    assert time_B[1] == one[0]
    many, _ = draws(tuple(map(str, range(4000))), torch.zeros(4000, 1, 1))
    assert float(many.logit().mean()) == pytest.approx(0, abs=4 / 4000**0.5)
    assert float(many.logit().std()) == pytest.approx(1, abs=0.05)


def test_latents_are_worked_on_in_units_of_the_codebook() -> None:
    network = built()
    centroids = torch.randn(500, L, dtype=torch.float64) * torch.arange(1, L + 1) + 7
    network.fit_scale(centroids)
    scaled = network.scaled(centroids)
    assert scaled.mean(dim=0).abs().max() < 1e-6
    assert torch.allclose(scaled.std(dim=0), torch.ones(L, dtype=torch.float64))
    assert torch.allclose(network.restored(scaled), centroids)
    with pytest.raises(BadInput, match=r"3 wide; set model\.latent_width to that, got 6"):
        network.fit_scale(torch.zeros(9, 3))


@torch.no_grad()
def test_playing_repeats_by_seed_and_hears_vocal_prefix_and_scale() -> None:
    network, g = built(), torch.Generator().manual_seed(1)
    vocal_TL, prefix_1PW = torch.randn(9, L, generator=g), torch.randn(1, 2, SMALL.prefix_width, generator=g)
    kept = torch.zeros(1, 2, dtype=torch.bool)
    config = SamplerConfig(steps=2)

    def played(vocal: Tensor = vocal_TL, rows: int = 1, seed: int = 0, **changes: object) -> Tensor:
        dropped = torch.cat((kept, ~kept))[:rows]
        settings = config.model_copy(update=changes)
        return play(network, vocal, prefix_1PW.expand(rows, -1, -1), dropped, settings, seed)

    assert played().shape == (9, L)
    assert torch.equal(played(), played())
    assert not torch.allclose(played(), played(seed=1))
    assert not torch.allclose(played(), played(vocal=vocal_TL + 1))
    guided = played(rows=2, guidance_text=2.0, guidance_reference=2.0)
    assert not torch.allclose(played(), guided)


def test_it_learns_the_velocity_that_is_known_in_closed_form() -> None:
    """Songs of N(the vocal's number, SPREAD^2): the least error at time t is s^2 / ((1 - t)^2 s^2 + t^2)."""
    torch.manual_seed(0)
    config = flowing(latent_width=1, attention_dropout=0.0)
    network, g = FlowPredictor(config), torch.Generator().manual_seed(0)
    steps, rows = 500, 128
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def error(count: int) -> tuple[Tensor, Tensor]:
        vocal_BTL = 2 * torch.randn(count, 4, 1, generator=g)
        song_BTL = vocal_BTL + SPREAD * torch.randn(vocal_BTL.shape, generator=g)
        noise_BTL, time_B = torch.randn(vocal_BTL.shape, generator=g), torch.randn(count, generator=g).sigmoid()
        time_B11 = time_B[:, None, None]
        found = network(
            vocal_BTL, torch.lerp(song_BTL, noise_BTL, time_B11), time_B,
            torch.zeros(count, config.prefix_slots, config.prefix_width), None,
            torch.ones(count, config.prefix_slots, dtype=torch.bool),
        )  # fmt: skip
        least = SPREAD**2 / ((1 - time_B) ** 2 * SPREAD**2 + time_B**2)
        return (found - (noise_BTL - song_BTL)).square().mean(dim=(1, 2)), least

    untrained = float(error(4096)[0].mean().detach())
    for _ in range(steps):
        loss = error(rows)[0].mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found, least = error(16_384)
    excess = found - least
    assert untrained > 5 * float(least.mean())
    assert float(excess.mean()) < 0.1 * float(least.mean())
    assert float(excess.mean()) > -4 * float(excess.std()) / len(excess) ** 0.5


def test_times_are_told_apart() -> None:
    told = waves(torch.linspace(0, 1, 50))
    assert torch.cdist(told, told).fill_diagonal_(torch.inf).min() > 0.5


def test_a_batch_without_latents_is_refused() -> None:
    with pytest.raises(ValueError, match="needs batches with latents"):
        FlowObjective(flowing(), EVERY_FRAME)(replace(rows(), vocal_latent_BTL=None))


def test_latents_keep_their_halves_apart() -> None:
    sample = with_latents(song("s", 30, variants=1), L)
    assert sample.latents["accompaniment"].shape == (2, 1, 30, L)
    assert np.isfinite(sample.latents["vocal"]).all()
