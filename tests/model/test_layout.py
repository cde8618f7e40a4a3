"""Layouts: tracks side by side or one after the other, padded, packed, causal: no leak, and each song as if alone."""

import pytest
import torch
from pydantic import ValidationError
from test_network import SMALL
from torch import Tensor
from torch.nn import functional as F

from model.config import CODES, MASK, PAD, VOCAL_PAD, ModelConfig
from model.layout import two_blocks
from model.network import MaskPredictor, ahead, behind, parameter_counts

LENGTHS = (9, 4, 1, 7)
T = max(LENGTHS)
VALID_BT = torch.arange(T)[None] < torch.tensor(LENGTHS)[:, None]
LAYOUTS = [
    {"layout": "dual"},
    {"layout": "prefix"},
    {"layout": "prefix", "positions": "aligned"},
    {"layout": "dual", "kind": "autoregressive"},
    {"layout": "dual", "kind": "autoregressive", "lookahead": 2},
    {"layout": "prefix", "kind": "autoregressive"},
    {"layout": "prefix", "positions": "aligned", "kind": "autoregressive"},
]
PACKABLE = [given for given in LAYOUTS if given != LAYOUTS[-1] and given != LAYOUTS[-2]]


def built(**given: object) -> MaskPredictor:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({**SMALL.model_dump(), "init_std": 0.2, **given})
    return MaskPredictor(config, rtd=False).double().eval()


def songs() -> dict[str, Tensor]:
    """Four songs of unequal length, padded, some frames of each masked."""
    g = torch.Generator().manual_seed(3)
    vocal_BT, codes_BT = (torch.randint(CODES, (len(LENGTHS), T), generator=g) for _ in range(2))
    codes_BT[:, ::3] = MASK
    return {
        "vocal_BT": vocal_BT.masked_fill(~VALID_BT, VOCAL_PAD),
        "accompaniment_BT": codes_BT.masked_fill(~VALID_BT, PAD),
        "prefix_BPW": torch.randn(len(LENGTHS), 2, SMALL.prefix_width, generator=g, dtype=torch.float64),
        "dropped_BP": torch.tensor([[True, False], [False, False], [False, True], [True, True]]),
    }


def alone(given: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """One song, unpadded."""
    end = LENGTHS[row]
    return {
        name: x[row : row + 1] if name.endswith("P") or "BP" in name else x[row : row + 1, :end]
        for name, x in given.items()
    }


@pytest.mark.parametrize("given", LAYOUTS, ids=str)
def test_a_padded_batch_equals_its_songs_alone(given: dict[str, object]) -> None:
    network, batch = built(**given), songs()
    together = network.hidden(**batch, valid_BT=VALID_BT)
    for row, length in enumerate(LENGTHS):
        assert (together[row, :length] - network.hidden(**alone(batch, row))[0]).abs().max() < 1e-10


@pytest.mark.parametrize("given", PACKABLE, ids=str)
def test_packed_songs_equal_their_songs_alone_and_learn_the_same(given: dict[str, object]) -> None:
    packed, plain, batch = built(pack=True, **given), built(**given), songs()
    weight = torch.randn(len(LENGTHS), T, SMALL.width, dtype=torch.float64)
    answers = []
    for network in (packed, plain):
        hidden = network.hidden(**batch, valid_BT=VALID_BT)
        (hidden * weight)[VALID_BT].sum().backward()
        answers.append(hidden)
    assert (answers[0] - answers[1])[VALID_BT].abs().max() < 1e-10
    for one, other in zip(packed.parameters(), plain.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("given", [*LAYOUTS, *({"pack": True, **given} for given in PACKABLE)], ids=str)
def test_rows_asked_for_are_those_of_all_rows_and_teach_the_same(given: dict[str, object], padded: bool) -> None:
    batch, weight_D = songs(), torch.arange(SMALL.width, dtype=torch.float64)
    valid_BT = VALID_BT if padded else torch.ones_like(VALID_BT)
    wanted_BT = valid_BT & (batch["accompaniment_BT"] == MASK)
    wanted_BT[2] = False  # a song that asks for nothing
    answers, gradients = [], []
    for spares in (True, False):
        network = built(**given)
        hidden = network.hidden(**batch, valid_BT=valid_BT, wanted_BT=wanted_BT if spares else None)
        answers.append(hidden if spares else hidden[wanted_BT])
        (answers[-1] * weight_D).square().sum().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    torch.testing.assert_close(*answers, rtol=1e-10, atol=1e-10)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-8)


def test_nothing_asked_for_is_nothing() -> None:
    network, batch = built(), songs()
    hidden = network.hidden(**batch, valid_BT=VALID_BT, wanted_BT=torch.zeros_like(VALID_BT))
    assert hidden.shape == (0, SMALL.width)


def test_packed_songs_are_no_work_for_pads_and_reach_attention_without_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    attention = F.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, dropout_p: float, is_causal: bool) -> Tensor:
        assert attn_mask is None
        lengths.append(q.shape[2])
        return attention(q, k, v, dropout_p=dropout_p, is_causal=is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    built(pack=True).hidden(**songs(), valid_BT=VALID_BT)
    assert lengths == [length + 2 for length in LENGTHS] * SMALL.layers


def test_a_song_of_the_pack_never_changes_another() -> None:
    network, batch = built(pack=True), songs()
    before = network.hidden(**batch, valid_BT=VALID_BT)
    batch["vocal_BT"][0] = 5
    batch["prefix_BPW"][0] += 1
    batch["accompaniment_BT"][0] = 77
    after = network.hidden(**batch, valid_BT=VALID_BT)
    assert torch.equal(before[1:][VALID_BT[1:]], after[1:][VALID_BT[1:]])
    assert not torch.allclose(before[0], after[0])


@pytest.mark.parametrize("given", [g for g in LAYOUTS if g.get("kind") == "autoregressive"], ids=str)
def test_a_causal_frame_sees_no_code_from_itself_on(given: dict[str, object]) -> None:
    network, batch = built(**given), alone(songs(), 0)
    before = network.hidden(**batch)
    for frame in range(T):
        changed = batch | {"accompaniment_BT": batch["accompaniment_BT"].clone()}
        changed["accompaniment_BT"][0, frame:] = 1234
        after = network.hidden(**changed)
        assert torch.equal(before[:, : frame + 1], after[:, : frame + 1])
        assert frame == T - 1 or (before[:, frame + 1 :] - after[:, frame + 1 :]).abs().amin(dim=-1).max() > 0


@pytest.mark.parametrize(
    ("given", "heard"),
    [
        ({"layout": "dual"}, range(T)),
        ({"layout": "prefix"}, range(T)),
        ({"layout": "dual", "kind": "autoregressive"}, range(4)),
        ({"layout": "dual", "kind": "autoregressive", "lookahead": 2}, range(2, 6)),
        ({"layout": "prefix", "kind": "autoregressive"}, range(T)),
    ],
    ids=str,
)
def test_frame_3_hears_this_much_of_the_vocal(given: dict[str, object], heard: range) -> None:
    network, batch = built(**given), alone(songs(), 0)
    before = network.hidden(**batch)[0, 3]
    moved = []
    for frame in range(T):
        changed = batch | {"vocal_BT": batch["vocal_BT"].clone()}
        changed["vocal_BT"][0, frame] = 4321
        moved.append(not torch.equal(before, network.hidden(**changed)[0, 3]))
    assert [frame for frame, did in enumerate(moved) if did] == list(heard)


def test_aligned_positions_say_which_vocal_frame_sounds_at_the_same_time() -> None:
    concat, aligned = built(layout="prefix"), built(layout="prefix", positions="aligned")
    assert two_blocks(concat.config, 2, 3, None).tolist() == [0, 1, *(2, 3, 4), *(5, 6, 7)]
    assert two_blocks(aligned.config, 2, 3, None).tolist() == [0, 1, *(2, 3, 4), *(2, 3, 4)]
    batch = alone(songs(), 0)
    assert not torch.allclose(concat.hidden(**batch), aligned.hidden(**batch))


def test_one_stream_has_full_width_tracks_and_no_other_parameter() -> None:
    dual, one = built(), built(layout="prefix")
    shapes = [{name: tuple(p.shape) for name, p in network.named_parameters()} for network in (dual, one)]
    different = {name for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    assert shapes[0].keys() == shapes[1].keys()
    assert different == {"voc_embed.weight", "acc_embed.weight"}
    assert one.voc_embed.weight.shape[1] == SMALL.width
    assert parameter_counts(dual)["backbone"] == parameter_counts(one)["backbone"]


def test_causal_inputs_are_shifted() -> None:
    assert behind(torch.tensor([[5, 6, 7]])).tolist() == [[MASK, 5, 6]]
    assert ahead(torch.tensor([[5, 6, 7]]), 2).tolist() == [[7, VOCAL_PAD, VOCAL_PAD]]
    assert ahead(torch.tensor([[5]]), 4).tolist() == [[VOCAL_PAD]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"positions": "aligned"}, "aligned needs model.layout prefix"),
        ({"lookahead": 2}, "lookahead needs model.kind autoregressive"),
        ({"lookahead": 2, "kind": "autoregressive", "layout": "prefix"}, "and model.layout dual"),
        ({"kind": "autoregressive", "layout": "prefix", "pack": True}, "needs model.layout dual"),
        ({"kind": "flow", "embeddings": "codebook"}, "has no codes"),
        ({"kind": "flow", "head": "codebook"}, "has no codes"),
    ],
)
def test_settings_that_do_not_combine_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(given)
    with pytest.raises(ValueError, match="no network of codes"):
        MaskPredictor(SMALL.model_copy(update={"kind": "flow"}), rtd=False)
