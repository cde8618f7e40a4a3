"""What a frame is drawn from: guidance of logits, the filter's law, and codes by their probability."""

import pytest
import torch
from torch import Tensor

from model.config import SamplerConfig
from model.sampling import Candidates, draw, filter_logits, guide
from model.schedule import generator


def full_sort_law(logits_V: Tensor, config: SamplerConfig) -> Tensor:
    """Probabilities `[V]` of the released law by a full sort: untempered nucleus, then top-k, then temperature."""
    order = logits_V.double().sort(descending=True).indices
    cumulated = logits_V.double().softmax(0)[order].cumsum(0)
    outside = cumulated > config.top_p
    outside[1:] = outside[:-1].clone()
    outside[0] = False
    kept = logits_V.double().clone()
    kept[order[outside]] = -torch.inf
    kept[kept < kept.topk(config.top_k).values[-1]] = -torch.inf
    return (kept / config.temperature).softmax(0)


@pytest.mark.parametrize("scale", [0.3, 2.0, 6.0])
@pytest.mark.parametrize("config", [SamplerConfig(), SamplerConfig(top_k=7, top_p=0.5, temperature=0.6)])
def test_the_filter_is_the_released_law_without_its_sort(scale: float, config: SamplerConfig) -> None:
    logits_MV = torch.randn(40, 2000, generator=generator(3)) * scale
    candidates = filter_logits(logits_MV, config)
    ours_MV = torch.zeros(40, 2000, dtype=torch.float64)
    ours_MV.scatter_(1, candidates.codes_MK, candidates.probability_MK.double())
    wanted_MV = torch.stack([full_sort_law(row, config) for row in logits_MV])
    assert torch.equal(ours_MV > 0, wanted_MV > 0)
    assert (ours_MV - wanted_MV).abs().max() < 1e-5
    assert torch.allclose(candidates.peak_M, logits_MV.softmax(1).amax(1))


def test_the_code_that_crosses_the_nucleus_stays() -> None:
    logits_MV = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.95, 0.03, 0.01, 0.01]]).log()
    kept_MK = filter_logits(logits_MV, SamplerConfig(top_p=0.7)).probability_MK
    assert torch.allclose(kept_MK, torch.tensor([[0.625, 0.375, 0, 0], [1, 0, 0, 0]]))


def test_codes_are_drawn_by_their_probability_and_never_from_beyond_the_cut() -> None:
    probability_MK = torch.tensor([[0.6, 0.4, 0.0]]).expand(3, 3)
    candidates = Candidates(torch.tensor([[9, 4, 1]]).expand(3, 3), probability_MK, torch.tensor([0.5] * 3))
    uniform_M = torch.tensor([0.0, 0.6001, 1.0])
    drawn_M, confidence_M = draw(candidates, uniform_M, SamplerConfig())
    assert drawn_M.tolist() == [9, 4, 4]
    assert confidence_M.tolist() == pytest.approx([0.6, 0.4, 0.4])
    assert draw(candidates, uniform_M, SamplerConfig(temperature=0.0))[0].tolist() == [9, 9, 9]
    assert draw(candidates, uniform_M, SamplerConfig(confidence="max"))[1].tolist() == [0.5, 0.5, 0.5]


def test_guidance_is_off_at_one_and_unconditional_at_zero() -> None:
    both, text, none = torch.randn(3, 4, 9, generator=generator(0)).unbind()

    def guided(text_scale: float, reference_scale: float) -> Tensor:
        return guide(both, text, none, SamplerConfig(guidance_text=text_scale, guidance_reference=reference_scale))

    assert torch.equal(guided(1.0, 1.0), both)
    assert torch.allclose(guided(0.0, 0.0), none)
    assert torch.allclose(guided(1.0, 0.0), text)
    assert torch.allclose(guided(3.0, 3.0), none + 3 * (both - none))
    assert torch.allclose(guided(2.0, 0.5), none + 2 * (text - none) + 0.5 * (both - text))
    with pytest.raises(ValueError, match="logits with text alone"):
        guide(both, None, none, SamplerConfig(guidance_text=2.0))
