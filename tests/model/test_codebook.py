"""Embeddings from the codebook: nearest codes stay nearest, sizes are those of random ones, the rest stays as drawn."""

import pytest
import torch
from test_network import SMALL

from model.codebook import embed_codebook, head_codebook, project
from model.config import CODES, ModelConfig, TrainRun
from model.kinds import begin, build_network
from pipeline.codec.codec import CodecConfig, build, continuous


def centroids(codes: int = 300, width: int = 12) -> torch.Tensor:
    """A decaying spectrum, as that of principal components, and a mean."""
    scale = 0.7 ** torch.arange(width)
    return torch.randn(codes, width, generator=torch.Generator().manual_seed(0)) * scale + 3.0


def neighbours(points: torch.Tensor, count: int) -> torch.Tensor:
    distance = torch.cdist(points.double(), points.double()).fill_diagonal_(torch.inf)
    return distance.topk(count, largest=False).indices


@pytest.mark.parametrize("width", [12, 20, 64])
def test_in_a_width_that_holds_them_distances_keep_their_ratios(width: int) -> None:
    points = centroids()
    projected = project(points, width, std=0.02, seed=0)
    assert projected.shape == (300, width)
    ratio = torch.cdist(projected.double(), projected.double()) / torch.cdist(points.double(), points.double())
    off = ~torch.eye(300, dtype=torch.bool)
    assert float(ratio[off].std() / ratio[off].mean()) < 1e-4
    assert torch.equal(neighbours(projected, 5), neighbours(points, 5))
    assert float(projected.std()) == pytest.approx(0.02, rel=0.01)
    assert projected.mean(dim=0).abs().max() < 1e-6
    assert float(projected.std(dim=0).min()) > 0, "every column is used"


def test_in_a_narrower_width_the_nearest_is_mostly_the_same() -> None:
    points = centroids()
    kept = (neighbours(project(points, 6, 0.02, 0), 1) == neighbours(points, 1)).float().mean()
    assert float(kept) > 0.7


def test_codes_take_the_projection_and_mask_and_pads_do_not() -> None:
    torch.manual_seed(0)
    drawn, changed = (build_network(SMALL, rtd=False) for _ in range(2))
    changed.load_state_dict(drawn.state_dict())
    embed_codebook(changed, centroids(CODES, 12), seed=0)
    for name in ("voc_embed", "acc_embed"):
        before, after = getattr(drawn, name).weight, getattr(changed, name).weight
        assert torch.equal(before[CODES:], after[CODES:])
        assert not torch.equal(before[:CODES], after[:CODES])
    assert torch.equal(changed.voc_embed.weight[:CODES], changed.acc_embed.weight[:CODES])
    with pytest.raises(ValueError, match="300 centroids, there are 16384 codes"):
        embed_codebook(changed, centroids(), seed=0)


def test_the_head_takes_the_projection_and_the_embeddings_do_not() -> None:
    torch.manual_seed(0)
    drawn, changed = (build_network(SMALL, rtd=False) for _ in range(2))
    changed.load_state_dict(drawn.state_dict())
    points = centroids(CODES, 12)
    head_codebook(changed, points, seed=0)
    assert torch.equal(drawn.acc_embed.weight, changed.acc_embed.weight)
    head = changed.to_logits.weight.detach()
    assert torch.equal(neighbours(head[:400], 3), neighbours(points[:400], 3))
    assert float(head.std()) == pytest.approx(SMALL.init_std, rel=0.01)
    with pytest.raises(ValueError, match="300 centroids, there are 16384 codes"):
        head_codebook(changed, centroids(), seed=0)


@pytest.mark.parametrize("layout", ["dual", "prefix"])
def test_a_run_begins_with_its_codecs_codebook_and_draws_nothing_for_it(layout: str) -> None:
    config = ModelConfig.model_validate(
        {**SMALL.model_dump(), "embeddings": "codebook", "head": "codebook"}
        | {"width": 256, "layout": layout, "layers": 1}
    )
    network = build_network(config, rtd=False)
    state = torch.get_rng_state()
    begin(network, TrainRun(model=config))
    assert torch.equal(torch.get_rng_state(), state)
    centres = torch.from_numpy(continuous(build(CodecConfig())).centroids())[:400]
    for begun in (network.acc_embed.weight, network.to_logits.weight):
        assert torch.equal(neighbours(begun.detach()[:400], 3), neighbours(centres, 3))
