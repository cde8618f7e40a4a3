"""CLaMP3's port: published names and shapes, numbers against a derivation of our own, segments, texts, files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_transformer import BERT, layer, linear, norm
from tokenizers import Tokenizer, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor

from pipeline.batching import remarks
from pipeline.conditioning import conditioner as conditioners
from pipeline.conditioning.clamp3 import network as clamp3
from pipeline.conditioning.clamp3 import weights
from pipeline.conditioning.clamp3.conditioner import Clamp3Conditioner, cleaned
from pipeline.conditioning.conditioner import ConditioningConfig
from pipeline.encoders.mert import network as mert
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.published import below
from pipeline.types import Audio

GOLDEN = Path(__file__).parents[1] / "golden" / "published" / "clamp3.json"
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
WORDS = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "slow": 4, "sad": 5, "rock": 6}


def build(width: int = 12) -> clamp3.Clamp3:
    torch.manual_seed(0)
    return clamp3.Clamp3(clamp3.text_config(vocab_size=20, **SIZES), clamp3.audio_config(**SIZES), width)


@pytest.fixture(scope="module")
def tiny() -> clamp3.Clamp3:
    return build().double()


def test_names_and_shapes_are_the_published_ones_without_the_symbolic_tower() -> None:
    with torch.device("meta"):
        ours = {name: list(tensor.shape) for name, tensor in clamp3.Clamp3().state_dict().items()}
    published = json.loads(GOLDEN.read_text())
    assert ours == {name: shape for name, shape in published.items() if weights.is_ours(name)}
    assert {name.split(".")[0] for name in published.keys() - ours.keys()} == {"symbolic_model", "symbolic_proj"}


def encoded(state: dict[str, Tensor], x: Tensor, epsilon: float) -> Tensor:
    """Embedded ``[T, 16]`` -> last hidden states."""
    x = norm(state, "embeddings.LayerNorm", x, epsilon)
    for number in range(2):
        x = layer(below(state, f"encoder.layer.{number}."), BERT, x, 4, epsilon)
    return x


def text_of(network: clamp3.Clamp3, ids: Tensor) -> Tensor:
    """At most 128 tokens, every step written out; XLM-R counts positions from 2."""
    state = below(network.state_dict(), "text_model.")
    places = torch.arange(len(ids)) + 2
    x = state["embeddings.word_embeddings.weight"][ids] + state["embeddings.position_embeddings.weight"][places]
    hidden = encoded(state, x + state["embeddings.token_type_embeddings.weight"][0], 1e-5)
    return linear(network.state_dict(), "text_proj", hidden.mean(0))


def audio_of(network: clamp3.Clamp3, vectors: Tensor) -> Tensor:
    """At most 128 vectors, both markers included."""
    state = below(network.state_dict(), "audio_model.")
    x = vectors + state["embeddings.position_embeddings.weight"][: len(vectors)]
    hidden = encoded(state, x + state["embeddings.token_type_embeddings.weight"][0], 1e-12)
    return linear(network.state_dict(), "audio_proj", hidden.mean(0))


def test_text_is_that_of_the_derivation(tiny: clamp3.Clamp3) -> None:
    ids = torch.tensor([0, 7, 4, 19, 2])
    torch.testing.assert_close(tiny.text(ids), text_of(tiny, ids), rtol=1e-9, atol=1e-9)


def test_audio_is_that_of_the_derivation(tiny: clamp3.Clamp3) -> None:
    vectors = torch.randn(7, 16, generator=torch.Generator().manual_seed(1)).double()
    marker = torch.zeros(1, 16).double()
    expected = audio_of(tiny, torch.cat([marker, vectors, marker]))
    torch.testing.assert_close(tiny.audio(vectors), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(tiny.audio_of_one(vectors[0]), audio_of(tiny, vectors[:1]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("length", "parts"),
    [
        (128, [(0, 128, 128)]),
        (129, [(0, 128, 128), (1, 129, 1)]),
        (256, [(0, 128, 128), (128, 256, 128)]),
        (300, [(0, 128, 128), (128, 256, 128), (172, 300, 44)]),
    ],
)
def test_the_last_segment_is_the_last_128_and_weighs_what_was_left(
    tiny: clamp3.Clamp3, length: int, parts: list[tuple[int, int, int]]
) -> None:
    ids = torch.randint(2, 20, (length,), generator=torch.Generator().manual_seed(2))
    expected = sum(text_of(tiny, ids[begin:end]) * weight for begin, end, weight in parts) / length
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(tiny.text(ids), expected, rtol=1e-9, atol=1e-9)


def test_lines_are_said_once_and_in_order() -> None:
    assert cleaned("slow\n\nsad\nslow") == "slow</s>sad"
    assert cleaned("") == ""


@pytest.fixture
def conditioner(monkeypatch: pytest.MonkeyPatch) -> Clamp3Conditioner:
    return make("official")


def make(recipe: str) -> Clamp3Conditioner:
    tokenizer = Tokenizer(WordLevel(WORDS, "<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    ears = mert.build(
        mert.config(conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, **SIZES)
    )
    config = ConditioningConfig.model_validate({"backend": "clamp3", "clamp3_recipe": recipe})
    return Clamp3Conditioner(config, build(768), ears, tokenizer, "0" * 64, "MIT")


def test_texts_go_through_the_tokenizer(conditioner: Clamp3Conditioner) -> None:
    rows = conditioner.text(["slow\nsad", "", "rock"])
    expected = [[0, 4, 2, 5, 2], [0, 2], [0, 6, 2]]
    for row, ids in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row, conditioner.network.text(torch.tensor(ids)), rtol=1e-5, atol=1e-6)
    assert rows.dtype == np.float32
    assert conditioner.text([]).shape == (0, 768)


def test_audio_of_any_rate_is_heard_at_24_khz_and_in_mono(conditioner: Clamp3Conditioner) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (2, 3 * 24_000)).astype(np.float32)
    heard = torch.from_numpy(samples.mean(0))
    expected = conditioner.network.audio(mert.window_vectors(conditioner.ears, heard))
    np.testing.assert_allclose(conditioner.audio(Audio(samples, 24_000)), expected, rtol=1e-4, atol=1e-5)
    assert conditioner.audio(Audio(samples, 48_000)).shape == (768,)
    with pytest.raises(BadInput, match=r"0\.50 s of reference audio; CLaMP3 needs 1 s"):
        conditioner.audio(Audio(samples[:, :12_000], 24_000))


@pytest.mark.parametrize("recipe", ["official", "released_code"])
def test_audio_of_unequal_lengths_shares_batches_and_is_heard_as_alone(recipe: str) -> None:
    """Windows of 5 s go together, and so do last ones of one length; silence leaves its mates alone."""
    conditioner = make(recipe)
    conditioner.at_once, sizes = 3, list[int]()  # as on a GPU
    hear = conditioner.ears.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    rng = np.random.default_rng(0)
    seconds = (11.5, 1.0, 6.5, 5.0, 1.5)
    pieces = [Audio(rng.normal(0, 0.1, (1, round(n * 48_000))).astype(np.float32), 48_000) for n in seconds]
    pieces.append(Audio(np.zeros((2, 240_000), np.float32), 48_000))
    together, count = conditioner.audio_batch(iter(pieces)), len(sizes)
    alone = np.stack([conditioner.audio(piece) for piece in pieces])
    hear.remove()
    assert np.array_equal(together, alone)
    assert len(np.unique(together[:, 0])) == len(pieces)
    if recipe == "official":
        assert (set(sizes), count) == (
            {3},
            4,
        )  # two of whole windows; one of 1.5 s, of which there are three; one of 1 s
    one_by_one = make(recipe)
    np.testing.assert_allclose(one_by_one.audio(pieces[0]), alone[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(BadInput, match=r"0\.50 s of reference audio"):
        conditioner.audio_batch([pieces[0], Audio(pieces[0].samples[:, :24_000], 48_000)])


def test_texts_of_unequal_lengths_share_batches_and_mean_what_they_mean_alone(conditioner: Clamp3Conditioner) -> None:
    """All are padded to one length, and masked: nothing of a mate is heard, to the last bit."""
    conditioner.at_once, sizes = 4, list[int]()
    hook = conditioner.network.text_model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(args[0])), with_kwargs=True
    )
    texts = ["slow", "", "rock sad", " ".join(["slow sad rock"] * 100), "sad\nsad"]  # the fourth has three segments
    together = conditioner.text_batch(texts)
    assert sizes == [4, 4]
    alone = np.stack([conditioner.text([text])[0] for text in texts])
    hook.remove()
    assert np.array_equal(together, alone)
    assert np.abs(together[0] - together[2]).max() > 1e-3


def test_it_hears_fewer_windows_at_once_where_memory_runs_out(conditioner: Clamp3Conditioner) -> None:
    conditioner.at_once = 4

    def small(module: object, args: tuple[Tensor, ...]) -> None:
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = conditioner.ears.register_forward_pre_hook(small)
    with remarks() as made:
        conditioner.audio(Audio(np.ones((1, 240_000), np.float32), 24_000))
    hook.remove()
    assert made == ["MERT: batch 4 -> 2, out of GPU memory"]


def test_released_code_takes_48_khz_for_24() -> None:
    conditioner = make("released_code")
    samples = np.random.default_rng(0).normal(0, 0.1, (1, 2 * 48_000)).astype(np.float32)
    vector = mert.released_vector(conditioner.ears, torch.from_numpy(samples[0]))
    expected = conditioner.network.audio_of_one(vector).detach()
    np.testing.assert_allclose(conditioner.audio(Audio(samples, 48_000)), expected, rtol=1e-4, atol=1e-5)
    assert conditioner.spec.name == "clamp3-released-code"


@pytest.mark.parametrize("tower", ["text", "audio"])
def test_sizes_are_read_off_the_published_tensors(tower: str) -> None:
    shapes = {name: torch.empty(shape, device="meta") for name, shape in json.loads(GOLDEN.read_text()).items()}
    told = weights.sizes_of(below(shapes, f"{tower}_model."), "file")
    make_config = {"text": clamp3.text_config, "audio": clamp3.audio_config}[tower]
    assert make_config(**told).to_dict() == make_config().to_dict()


def test_published_checkpoint_is_loaded_without_its_symbolic_tower(tmp_path: Path) -> None:
    sizes = {**SIZES, "hidden_size": 128, "num_attention_heads": 2}
    torch.manual_seed(0)
    network = clamp3.Clamp3(clamp3.text_config(vocab_size=20, **sizes), clamp3.audio_config(**sizes))
    beside = {"symbolic_model.patch_embedding.weight": torch.ones(2, 2), "symbolic_proj.bias": torch.ones(2)}
    positions = {"text_model.embeddings.position_ids": torch.arange(4)}
    content = {"model": network.state_dict() | beside | positions, "epoch": 3, "min_eval_loss": 0.1}
    torch.save(content, tmp_path / "clamp3.pth")
    loaded = weights.load(tmp_path / "clamp3.pth")
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in network.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(loaded.text(torch.tensor([0, 4, 2])), network.text(torch.tensor([0, 4, 2])))
    content["model"]["text_proj.bias"] = torch.zeros(12)
    torch.save(content, tmp_path / "bent.pth")
    with pytest.raises(BackendUnavailable, match=r"1 of another shape: text_proj\.bias \[12\] \(not \[768\]\)"):
        weights.load(tmp_path / "bent.pth")
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    with pytest.raises(BackendUnavailable, match=r"bare\.pth has not the layout of the published file: no model in it"):
        weights.load(tmp_path / "bare.pth")


def test_without_its_weights_the_command_that_brings_them_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="backline assets pull clamp3"):
        conditioners.build(ConditioningConfig(backend="clamp3"))
