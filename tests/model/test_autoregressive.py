"""The causal ablation: cached sampling equals uncached, the likelihood is exact, guidance and kept codes hold."""

from typing import Any

import pytest
import torch
from test_network import SMALL
from torch import Tensor

from model.autoregressive import Decoding, draw_codes
from model.config import CODES, MASK, VOCAL_PAD, ModelConfig, ObjectiveConfig, RtdConfig, SamplerConfig
from model.data import Batch
from model.denoising import guided
from model.diffusion import nll_plan, numerators, token_losses, visible
from model.network import MaskPredictor
from model.objective import Objective, denominators
from model.sampling import FREE
from model.schedule import generator

T = 24
VARIANTS: list[dict[str, Any]] = [
    {"layout": "dual"},
    {"layout": "dual", "lookahead": 3},
    {"layout": "prefix"},
    {"layout": "prefix", "positions": "aligned"},
]
EVERY_FRAME = ObjectiveConfig(mask_schedule=(1.0,), rtd=RtdConfig(weight=0.0))


def causal(**given: object) -> ModelConfig:
    return ModelConfig.model_validate({**SMALL.model_dump(), "kind": "autoregressive", "init_std": 0.2, **given})


def built(**given: object) -> MaskPredictor:
    torch.manual_seed(0)
    return MaskPredictor(causal(**given), rtd=False).double().eval()


def song(rows: int = 1) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(2)
    return {
        "vocal": torch.randint(CODES, (1, T), generator=g).expand(rows, -1),
        "prefix": torch.randn(1, 2, SMALL.prefix_width, generator=g, dtype=torch.float64).expand(rows, -1, -1),
        "dropped": torch.tensor([[False, False], [False, True], [True, True]])[-rows:],
        "codes": torch.randint(CODES, (1, T), generator=g),
    }


class Uncached:
    """The whole song anew for every frame."""

    def __init__(self, network: MaskPredictor, given: dict[str, Tensor]) -> None:
        self.network, self.given, self.codes = network, given, torch.full_like(given["vocal"], 7)
        self.frame = -1

    def __call__(self, before: int) -> Tensor:
        if self.frame >= 0:
            self.codes[:, self.frame] = before
        self.frame += 1
        hidden = self.network.hidden(self.given["vocal"], self.codes, self.given["prefix"], None, self.given["dropped"])
        return self.network.logits(hidden[:, self.frame])


@pytest.mark.parametrize("given", VARIANTS, ids=str)
@pytest.mark.parametrize("rows", [1, 3])
@torch.no_grad()
def test_cached_sampling_equals_uncached_token_for_token(given: dict[str, Any], rows: int) -> None:
    network, inputs = built(**given), song(rows)
    scales = {1: (1.0, 1.0), 3: (2.0, 1.5)}[rows]
    config = SamplerConfig(guidance_text=scales[0], guidance_reference=scales[1])
    fixed_T = torch.full((T,), FREE)
    fixed_T[5:8] = 77
    cached = Decoding(network, inputs["vocal"], inputs["prefix"], inputs["dropped"])
    one = draw_codes(cached, fixed_T, config, seed=4)
    other = draw_codes(Uncached(network, inputs), fixed_T, config, seed=4)
    assert torch.equal(one, other)
    assert one[5:8].tolist() == [77] * 3
    assert int(one.max()) < CODES
    again = draw_codes(Decoding(network, inputs["vocal"], inputs["prefix"], inputs["dropped"]), fixed_T, config, 5)
    assert not torch.equal(one, again)


@pytest.mark.parametrize("given", VARIANTS, ids=str)
@torch.no_grad()
def test_the_likelihood_is_the_sum_of_teacher_forced_log_probabilities(given: dict[str, Any]) -> None:
    network, inputs = built(**given), song()
    codes_1T = inputs["codes"]
    everything = torch.ones_like(codes_1T, dtype=torch.bool)
    plan = nll_plan(network.config, everything, draws=8, generator=generator(0))
    assert torch.equal(plan.masks_NBT, everything[None])
    shown_1T = visible(network.config, codes_1T, everything, everything)
    logits_MV = network(
        inputs["vocal"], shown_1T, inputs["prefix"], None, inputs["dropped"], plan.masks_NBT[0]
    ).logits_MV
    nats = numerators(token_losses(logits_MV, codes_1T, everything), everything, plan.weights_NB[0].double())
    forced, before, total = Decoding(network, inputs["vocal"], inputs["prefix"], inputs["dropped"]), MASK, 0.0
    for code in codes_1T[0].tolist():
        total -= float(forced(before)[0].log_softmax(dim=0)[code])
        before = code
    assert float(nats) == pytest.approx(total, abs=1e-9)


def batch(lengths: tuple[int, ...]) -> Batch:
    g = torch.Generator().manual_seed(5)
    shape = (len(lengths), max(lengths))
    valid_BT = torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]
    return Batch(
        vocal_BT=torch.randint(CODES, shape, generator=g).masked_fill(~valid_BT, VOCAL_PAD),
        accompaniment_BT=torch.randint(CODES, shape, generator=g),
        prefix_BPW=torch.randn(len(lengths), 2, SMALL.prefix_width, generator=g),
        dropped_BP=torch.zeros(len(lengths), 2, dtype=torch.bool), valid_BT=valid_BT, mask_BT=valid_BT,
        ratio_B=torch.ones(len(lengths), dtype=torch.float64), padded=not bool(valid_BT.all()),
        row_seeds=tuple(map(str, lengths)), keys=tuple(map(str, lengths)), reference_impossible=0,
    )  # fmt: skip


@pytest.mark.parametrize("given", VARIANTS, ids=str)
@torch.no_grad()
def test_the_loss_is_the_mean_over_songs_of_their_mean_cross_entropy(given: dict[str, Any]) -> None:
    config = causal(**given)
    torch.manual_seed(0)
    objective, rows = Objective(config, EVERY_FRAME).double().eval(), batch((9, 4))
    sums = objective(rows)
    wanted = 0.0
    for row, length in enumerate((9, 4)):
        hidden = objective.network.hidden(
            rows.vocal_BT[row : row + 1, :length], rows.accompaniment_BT[row : row + 1, :length],
            rows.prefix_BPW[row : row + 1],
        )  # fmt: skip
        nats_T = torch.nn.functional.cross_entropy(
            objective.network.logits(hidden[0]), rows.accompaniment_BT[row, :length], reduction="none"
        )
        wanted += float(nats_T.mean())
    assert float(sums.masked_loss) == pytest.approx(wanted, rel=1e-6)
    assert float(denominators(EVERY_FRAME, rows).masked) == 2


def test_unguided_rows_are_joined_as_elsewhere() -> None:
    logits_GMV = torch.randn(3, 4, 9, generator=generator(0))
    config = SamplerConfig(guidance_text=2.0, guidance_reference=0.5)
    both, text, none = logits_GMV
    assert torch.allclose(guided(logits_GMV, config), none + 2 * (text - none) + 0.5 * (both - text))


def test_other_kinds_are_not_drawn_code_by_code() -> None:
    network, inputs = MaskPredictor(SMALL, rtd=False), song()
    with pytest.raises(ValueError, match=r"only model\.kind autoregressive"):
        Decoding(network, inputs["vocal"], inputs["prefix"], None)
    with pytest.raises(ValueError, match=r"no discriminator for model\.kind autoregressive"):
        MaskPredictor(causal(), rtd=True)
