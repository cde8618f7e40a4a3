"""Masks of every kind: rates, exact counts, spans, and rows that ignore their batch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.config import Corruption
from model.masking import draw_masks
from model.schedule import generator

KINDS: tuple[Corruption, ...] = ("bernoulli", "exact", "spans")


@pytest.mark.parametrize("kind", KINDS)
def test_a_rows_mask_ignores_its_batch_and_its_padding(kind: Corruption) -> None:
    valid_BT = torch.arange(40)[None, :] < torch.tensor([40, 25])[:, None]
    together = draw_masks(valid_BT, torch.tensor([0.2, 0.6]), [generator(8, 0), generator(8, 1)], kind, 4)
    alone = draw_masks(torch.ones(1, 25, dtype=torch.bool), torch.tensor([0.6]), [generator(8, 1)], kind, 4)
    assert torch.equal(together[1, :25], alone[0])
    assert not together[~valid_BT].any()


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_masked_at_the_given_rate(kind: Corruption) -> None:
    valid_BT = torch.ones(3, 20_000, dtype=torch.bool)
    rate_B = torch.tensor([0.0, 0.37, 1.0])
    drawn_B = draw_masks(valid_BT, rate_B, [generator(i) for i in range(3)], kind).double().mean(dim=1)
    assert drawn_B.tolist() == pytest.approx(rate_B.tolist(), abs=4 * math.sqrt(0.25 / 20_000))
    assert drawn_B[0] == 0
    assert drawn_B[2] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_masked_as_often(kind: Corruption) -> None:
    rows, frames, ratio = 4000, 12, 0.3
    valid_BT = torch.ones(rows, frames, dtype=torch.bool)
    mask_BT = draw_masks(valid_BT, torch.full((rows,), ratio), [generator(kind, i) for i in range(rows)], kind, 3)
    error = 4.5 * math.sqrt(ratio * (1 - ratio) / rows)
    assert mask_BT.double().mean(dim=0).tolist() == pytest.approx(
        [ratio] * frames, abs=error + (kind == "spans") * 0.04
    )


@given(frames=st.integers(1, 60), ratio=st.floats(0, 1), span=st.integers(1, 9), seed=st.integers(0, 99))
def test_counts_are_exact_and_spans_are_whole_but_the_last(frames: int, ratio: float, span: int, seed: int) -> None:
    for kind in ("exact", "spans"):
        valid_BT = torch.ones(1, frames, dtype=torch.bool)
        mask_T = draw_masks(valid_BT, torch.tensor([ratio]), [generator(seed)], kind, span)[0]
        count = int(mask_T.sum())
        assert count in {math.floor(float(torch.tensor([ratio])[0]) * frames), math.ceil(ratio * frames)}
        begins = int((mask_T & ~torch.cat([torch.tensor([False]), mask_T[:-1]])).sum())
        if kind == "spans":
            assert begins <= math.ceil(count / span) + 2  # both ends of the grid may be cut, and the last stretch
