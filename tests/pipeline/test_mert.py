"""MERT's port: its published names and shapes, its numbers against a derivation of our own, its windows."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from reference_transformer import HUBERT, gelu, layer, linear, norm
from torch import Tensor
from transformers import HubertModel

from pipeline.encoders.mert import network, weights
from pipeline.errors import BackendUnavailable
from pipeline.published import below

GOLDEN = Path(__file__).parents[1] / "golden" / "published" / "mert.json"
TINY = network.config(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
)
WIDE = network.config(
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=4,
    num_conv_pos_embedding_groups=2,
)  # heads as wide as the published ones, which a file does not tell
RATE = network.SAMPLE_RATE


@pytest.fixture(scope="module")
def tiny() -> HubertModel:
    torch.manual_seed(0)
    return network.build(TINY).double()


def noise(seconds: float) -> Tensor:
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(1)).double() * 0.1 + 0.02


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        ours = {name: list(tensor.shape) for name, tensor in network.build().state_dict().items()}
    assert ours == json.loads(GOLDEN.read_text())


def test_samples_of_another_precision_than_the_networks(tiny: HubertModel) -> None:
    samples = noise(7.5)
    torch.testing.assert_close(
        network.window_vectors(tiny, samples.float()), network.window_vectors(tiny, samples), rtol=1e-5, atol=1e-5
    )


def derived(state: dict[str, Tensor], samples: Tensor) -> Tensor:
    """Mean hidden state ``[width]``, every step written out."""
    x = ((samples - samples.mean()) / torch.sqrt(((samples - samples.mean()) ** 2).mean() + 1e-7))[None]
    for number, stride in enumerate(TINY.conv_stride):
        x = F.conv1d(x, state[f"feature_extractor.conv_layers.{number}.conv.weight"], stride=stride)
        if number == 0:  # a group norm with a group for each channel
            name = "feature_extractor.conv_layers.0.layer_norm"
            x = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, correction=0, keepdim=True) + 1e-5)
            x = x * state[f"{name}.weight"][:, None] + state[f"{name}.bias"][:, None]
        x = gelu(x)
    x = norm(state, "feature_projection.layer_norm", x.T, 1e-5)
    x = linear(state, "feature_projection.projection", x)
    name = "encoder.pos_conv_embed.conv"
    gain, direction = (state[f"{name}.parametrizations.weight.original{half}"] for half in (0, 1))
    kernel = gain * direction / direction.pow(2).sum((0, 1), keepdim=True).sqrt()
    places = F.conv1d(x.T, kernel, state[f"{name}.bias"], padding=2, groups=2)[:, :-1]  # an even kernel: one too many
    x = norm(state, "encoder.layer_norm", x + gelu(places).T, 1e-5)
    states = [x]
    for number in range(2):
        x = layer(below(state, f"encoder.layers.{number}."), HUBERT, x, 4, 1e-5)
        states.append(x)
    return torch.stack(states).mean((0, 1))


def test_numbers_are_those_of_the_derivation(tiny: HubertModel) -> None:
    samples = noise(3)
    answer = network.window_vectors(tiny, samples)
    torch.testing.assert_close(answer[0], derived(dict(tiny.state_dict()), samples), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("seconds", "windows"), [(0.5, 0), (0.999, 0), (1.0, 1), (5.0, 1), (5.9, 1), (6.0, 2), (41.0, 9)]
)
def test_windows_do_not_overlap_and_a_short_last_one_is_dropped(
    tiny: HubertModel, seconds: float, windows: int
) -> None:
    samples = noise(seconds)
    vectors = network.window_vectors(tiny, samples)
    assert vectors.shape == (windows, 16)
    if windows > 1:  # each window is heard alone, whatever lies in its batch
        second = network.normalised(samples)[network.WINDOW : 2 * network.WINDOW]
        torch.testing.assert_close(network.mean_state(tiny, second[None])[0], vectors[1], rtol=1e-9, atol=1e-9)


def test_released_vector_weighs_every_frame_alike(tiny: HubertModel, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = noise(2.5)
    monkeypatch.setattr(network, "RELEASED_CHUNK", RATE)
    rounded = network.normalised(samples.bfloat16().double())
    parts = torch.split(rounded, RATE)
    frames = torch.tensor([network.frames(tiny, len(part)) for part in parts], dtype=torch.float64)
    means = torch.stack([network.mean_state(tiny, part[None])[0] for part in parts])
    expected = (means * frames[:, None]).sum(0) / frames.sum()
    torch.testing.assert_close(network.released_vector(tiny, samples), expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="100 samples are too few"):
        network.released_vector(tiny, samples[:100])


def test_sizes_are_read_off_the_published_tensors() -> None:
    shapes = {name: torch.empty(shape, device="meta") for name, shape in json.loads(GOLDEN.read_text()).items()}
    told, published = network.config(**weights.sizes_of(shapes, "file")), network.config()
    assert {**told.to_dict(), "conv_kernel": (), "conv_dim": ()} == {
        **published.to_dict(), "conv_kernel": (), "conv_dim": (),
    }  # fmt: skip
    assert list(told.conv_kernel) == list(published.conv_kernel)
    assert list(told.conv_dim) == list(published.conv_dim)


def test_published_file_is_loaded_under_both_namings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = network.build(WIDE).state_dict()
    older = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in state.items()
    }
    for name, content in (("new.bin", state), ("old.bin", older)):
        torch.save(content, tmp_path / name)
        loaded = weights.load(tmp_path / name)
        assert all(torch.equal(loaded.state_dict()[key], tensor) for key, tensor in state.items())
        assert loaded.config.num_attention_heads == 2
    torch.save(older | {"lm_head.weight": torch.ones(1)}, tmp_path / "other.bin")
    with pytest.raises(BackendUnavailable, match=r"other\.bin does not fit HubertModel: 1 unexpected: lm_head\.weight"):
        weights.load(tmp_path / "other.bin")
    torch.save(older | {"encoder.layer_norm.bias": torch.ones(3)}, tmp_path / "bent.bin")
    with pytest.raises(
        BackendUnavailable, match=r"1 of another shape: encoder\.layer_norm\.bias \[3\] \(not \[128\]\)"
    ):
        weights.load(tmp_path / "bent.bin")
    torch.save({"model": older}, tmp_path / "wrapped.bin")
    with pytest.raises(BackendUnavailable, match=r"wrapped\.bin has not the layout of MERT's file"):
        weights.load(tmp_path / "wrapped.bin")
    torch.save({name: t for name, t in state.items() if "encoder.layers.1." not in name}, tmp_path / "shallow.bin")
    assert weights.load(tmp_path / "shallow.bin").config.num_hidden_layers == 1
