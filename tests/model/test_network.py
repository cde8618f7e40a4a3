"""The mask predictor: parity with Hugging Face Llama, no leaks, prefix and padding."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

from model.config import CODES, MASK, PAD, VOCAL_PAD, ModelConfig
from model.llama import EVERYWHERE, LlamaStack, Reach, rope_tables
from model.network import MaskPredictor, parameter_counts

B, T = 2, 24
SMALL = ModelConfig(
    layers=2, width=64, heads=4, kv_heads=2, head_dim=16, ffn=96, attention_dropout=0.0, prefix_width=12
)


def network(config: ModelConfig = SMALL, rtd: bool = False, std: float = 0.2) -> MaskPredictor:
    """Weights large enough that every input matters."""
    torch.manual_seed(0)
    return MaskPredictor(config.model_copy(update={"init_std": std}), rtd).double().eval()


def inputs() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    accompaniment_BT = torch.randint(CODES, (B, T), generator=g)
    accompaniment_BT[:, ::2] = MASK
    prefix_BPW = torch.randn(B, SMALL.prefix_slots, SMALL.prefix_width, generator=g, dtype=torch.float64)
    return {
        "vocal_BT": torch.randint(CODES, (B, T), generator=g),
        "accompaniment_BT": accompaniment_BT,
        "prefix_BPW": prefix_BPW,
    }


def reference_llama(config: ModelConfig) -> LlamaModel:
    rope: dict[str, object] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling:
        rope |= {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        rope |= {"original_max_position_embeddings": 8192}
    return LlamaModel(
        LlamaConfig(
            vocab_size=1,
            hidden_size=config.width,
            intermediate_size=config.ffn,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.rms_eps,
            rope_parameters=rope,
            max_position_embeddings=131_072,
            initializer_range=0.05,
            is_causal=False,
        )
    )


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_stack_equals_hugging_face_llama(padded: bool, scaled: bool) -> None:
    config = SMALL.model_copy(update={"rope_scaling": scaled, "rope_theta": 10_000.0 if scaled else 500_000.0})
    torch.manual_seed(0)
    theirs = reference_llama(config).double().eval()
    ours = LlamaStack(config).double().eval()
    state = {name: value for name, value in theirs.state_dict().items() if name != "embed_tokens.weight"}
    ours.load_state_dict(state, strict=True)
    x_BLD = torch.randn(B, T, config.width, dtype=torch.float64)
    allow_BL = torch.ones(B, T, dtype=torch.bool)
    allow_BL[1, 17:] = not padded
    with torch.no_grad():
        wanted = theirs(inputs_embeds=x_BLD, attention_mask=allow_BL if padded else None, use_cache=False)
        got = ours(x_BLD, Reach(allow=allow_BL[:, None, None]) if padded else EVERYWHERE)
    assert (wanted.last_hidden_state - got)[allow_BL].abs().max() < 1e-6


def test_parameter_names_are_llamas_and_the_released_checkpoints() -> None:
    config = SMALL.model_copy(update={"layers": 1})
    llama = {f"lm.{name}" for name in reference_llama(config).state_dict()} - {"lm.embed_tokens.weight"}
    shapes = {name: list(value.shape) for name, value in MaskPredictor(config, rtd=True).state_dict().items()}
    released = {
        "voc_embed.weight": [16385, 32],
        "acc_embed.weight": [16386, 32],
        "clamp_proj.weight": [64, 12],
        "clamp_proj.bias": [64],
        "to_logits.weight": [16384, 64],
        "rtd_head.weight": [1, 64],
        "rtd_head.bias": [1],
    }
    assert set(shapes) == llama | set(released)
    assert released.items() <= shapes.items()
    assert not any("rtd" in name for name in MaskPredictor(config, rtd=False).state_dict())


def test_the_1b_shape_has_its_1_04_billion_parameters() -> None:
    with torch.device("meta"):
        counts = parameter_counts(MaskPredictor(ModelConfig.model_validate({"shape": "1b"}), rtd=False))
    assert counts["total"] == pytest.approx(1.040e9, rel=2e-3)
    assert counts["backbone"] == pytest.approx(973.1e6, rel=1e-3)


@pytest.mark.parametrize(("shape", "backbone"), [("1b", 973.1e6), ("3b", 2818.7e6)])
@pytest.mark.parametrize("layout", ["dual", "prefix"])
def test_the_true_shapes_have_as_many_parameters_as_their_sizes_say(shape: str, backbone: float, layout: str) -> None:
    c = ModelConfig.model_validate({"shape": shape, "layout": layout})
    with torch.device("meta"):
        counts = parameter_counts(MaskPredictor(c, rtd=True))
    attention = 2 * c.width * c.heads * c.head_dim + 2 * c.width * c.kv_heads * c.head_dim
    layers = c.layers * (attention + 3 * c.width * c.ffn + 2 * c.width) + c.width
    tables = (16_385 + 16_386) * (c.width // 2 if layout == "dual" else c.width)
    rest = (c.prefix_width + 1) * c.width + 16_384 * c.width + c.width + 1
    assert counts == {"backbone": layers, "total": layers + tables + rest}
    assert counts["backbone"] == pytest.approx(backbone, rel=1e-4)


def test_initial_weights_are_normal_biases_zero_norms_one() -> None:
    torch.manual_seed(0)
    for name, value in MaskPredictor(SMALL, rtd=True).named_parameters():
        if "norm" in name:
            assert torch.equal(value, torch.ones_like(value)), name
        elif name.endswith("bias"):
            assert not value.any(), name
        elif value.numel() > 2000:
            assert float(value.detach().std()) == pytest.approx(0.02, rel=0.05), name


def logits_after(change: Callable[[dict[str, Tensor]], None], **options: Tensor) -> Tensor:
    """Logits `[B, T, V]` of the same network after `change` to the inputs."""
    model, given = network(), inputs()
    change(given)
    with torch.no_grad():
        return model.logits(model.hidden(**given, **options))


def unchanged(given: dict[str, Tensor]) -> None:
    """The inputs as they are."""


def other_end(name: str, frame: int, value: int) -> Callable[[dict[str, Tensor]], None]:
    def change(given: dict[str, Tensor]) -> None:
        given[name][:, frame] = value

    return change


@pytest.mark.parametrize("name", ["vocal_BT", "accompaniment_BT"])
@pytest.mark.parametrize(("frame", "seen_from"), [(T - 1, 0), (0, T - 1)])
def test_both_ends_of_both_tracks_see_each_other(name: str, frame: int, seen_from: int) -> None:
    difference = logits_after(unchanged) - logits_after(other_end(name, frame, 7))
    assert difference[:, seen_from].abs().max() > 1e-6


def test_logits_cover_the_codes_and_neither_mask_nor_pad() -> None:
    assert logits_after(unchanged).shape == (B, T, CODES)


def test_a_pad_key_never_changes_a_valid_frame() -> None:
    valid_BT = torch.ones(B, T, dtype=torch.bool)
    valid_BT[1, 15:] = False

    def garbage(given: dict[str, Tensor]) -> None:
        given["accompaniment_BT"][1, 15:] = 3
        given["vocal_BT"][1, 15:] = 9

    def padded(given: dict[str, Tensor]) -> None:
        given["accompaniment_BT"][1, 15:] = PAD
        given["vocal_BT"][1, 15:] = VOCAL_PAD

    one, other = logits_after(garbage, valid_BT=valid_BT), logits_after(padded, valid_BT=valid_BT)
    assert torch.equal(one[valid_BT], other[valid_BT])
    assert torch.isfinite(other).all()


def test_a_padded_row_equals_the_row_alone() -> None:
    model, given = network(), inputs()
    valid_BT = torch.ones(B, T, dtype=torch.bool)
    valid_BT[1, 15:] = False
    alone = {name: value[1:] if name == "prefix_BPW" else value[1:, :15] for name, value in given.items()}
    with torch.no_grad():
        padded_TD = model.hidden(**given, valid_BT=valid_BT)[1, :15]
        assert (padded_TD - model.hidden(**alone)[0]).abs().max() < 1e-12


def test_no_mask_reaches_attention_when_every_frame_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[Tensor | None] = []
    attention = F.scaled_dot_product_attention

    def spy(*args: Tensor, attn_mask: Tensor | None, dropout_p: float, is_causal: bool) -> Tensor:
        masks.append(attn_mask)
        return attention(*args, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    logits_after(unchanged, valid_BT=torch.ones(B, T, dtype=torch.bool))
    assert masks == [None] * SMALL.layers


@pytest.mark.parametrize("slot", [0, 1])
def test_a_dropped_slot_has_no_influence_and_a_kept_one_has(slot: int) -> None:
    def changed(given: dict[str, Tensor]) -> None:
        given["prefix_BPW"][:, slot] += 1

    dropped_BP = torch.zeros(B, SMALL.prefix_slots, dtype=torch.bool)
    kept = logits_after(unchanged, dropped_BP=dropped_BP) - logits_after(changed, dropped_BP=dropped_BP)
    assert kept.abs().max() > 1e-6
    dropped_BP[:, slot] = True
    assert torch.equal(logits_after(unchanged, dropped_BP=dropped_BP), logits_after(changed, dropped_BP=dropped_BP))


def test_a_dropped_slot_is_a_zero_vector_before_the_projection() -> None:
    model, given = network(), inputs()
    torch.nn.init.normal_(model.clamp_proj.bias)
    dropped_BP = torch.ones(B, SMALL.prefix_slots, dtype=torch.bool)
    zeros = given | {"prefix_BPW": torch.zeros_like(given["prefix_BPW"])}
    with torch.no_grad():
        assert torch.equal(model.hidden(**given, dropped_BP=dropped_BP), model.hidden(**zeros))


def test_a_learned_null_replaces_the_dropped_vector_and_learns() -> None:
    model, given = network(SMALL.model_copy(update={"null": "learned"})), inputs()
    assert model.null_prefix is not None
    torch.nn.init.normal_(model.null_prefix)
    dropped_BP = torch.tensor([[True, False], [False, False]])
    stand_in = given["prefix_BPW"].clone()
    stand_in[0, 0] = model.null_prefix.detach()[0]
    hidden_BTD = model.hidden(**given, dropped_BP=dropped_BP)
    assert torch.equal(hidden_BTD, model.hidden(**given | {"prefix_BPW": stand_in}))
    hidden_BTD.sum().backward()
    assert model.null_prefix.grad is not None
    assert model.null_prefix.grad.any(dim=1).tolist() == [True, False]


def test_a_prefix_of_another_width_is_refused() -> None:
    given = inputs() | {"prefix_BPW": torch.zeros(B, 2, 768)}
    with pytest.raises(ValueError, match=r"prefix must be \[B, 2, 12\], got \[2, 2, 768\]"):
        network().hidden(**given)


def test_attention_dropout_acts_in_training_and_nowhere_else() -> None:
    plain, dropping = network(), network(SMALL.model_copy(update={"attention_dropout": 0.3}))
    with torch.no_grad():
        assert torch.equal(dropping.hidden(**inputs()), plain.hidden(**inputs()))
        once, again = (dropping.train().hidden(**inputs()) for _ in range(2))
        assert not torch.allclose(once, again)
        assert torch.equal(plain.train().hidden(**inputs()), plain.eval().hidden(**inputs()))


def test_masked_logits_are_the_masked_rows_of_all_logits() -> None:
    model, given = network(), inputs()
    masked_BT = given["accompaniment_BT"] == MASK
    with torch.no_grad():
        prediction = model(**given, masked_BT=masked_BT)
        everything = model.logits(model.hidden(**given))
    assert prediction.rtd_BT is None
    assert (prediction.logits_MV - everything[masked_BT]).abs().max() < 1e-12


@pytest.mark.parametrize("detach", [True, False])
def test_a_detached_discriminator_teaches_only_its_head(detach: bool) -> None:
    model = network(rtd=True)
    prediction = model(**inputs(), judge=True, detach=detach)
    assert prediction.logits_MV is None
    prediction.rtd_BT.sum().backward()
    taught = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert taught == ({"rtd_head"} if detach else {"rtd_head", "lm", "voc_embed", "acc_embed", "clamp_proj"})


def test_contradictory_requests_are_refused() -> None:
    given = inputs()
    with pytest.raises(ValueError, match="in a pass of their own"):
        network(rtd=True)(**given, masked_BT=given["accompaniment_BT"] == MASK, judge=True, detach=True)
    with pytest.raises(ValueError, match="without a discriminator"):
        network()(**given, judge=True)


def test_logits_are_float32_in_a_bfloat16_network() -> None:
    model, given = network(rtd=True).bfloat16(), inputs()
    prediction = model(**given, masked_BT=given["accompaniment_BT"] == MASK, judge=True)
    assert prediction.logits_MV.dtype == prediction.rtd_BT.dtype == torch.float32


def test_positions_stay_apart_in_a_bfloat16_network() -> None:
    exact, _ = rope_tables(SMALL, torch.arange(5000), torch.zeros((), dtype=torch.float64))
    rounded, _ = rope_tables(SMALL, torch.arange(5000), torch.zeros((), dtype=torch.bfloat16))
    assert (exact - rounded.double()).abs().max() < 2**-8
