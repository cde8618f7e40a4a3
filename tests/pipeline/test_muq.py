"""MuQ's port: its published names and shapes, its numbers against transformers' conformer, its files."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import Wav2Vec2ConformerConfig
from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import Wav2Vec2ConformerEncoder

from pipeline.assets.pull import install
from pipeline.assets.store import VARIABLE, held
from pipeline.encoders.muq import mel, weights
from pipeline.encoders.muq.network import PIECE, MuQ, MuQShape
from pipeline.errors import BackendUnavailable
from pipeline.jit import librosa
from pipeline.published import below

GOLDEN = Path(__file__).parents[1] / "golden" / "published" / "muq.json"
TINY = MuQShape(width=128, layers=2, heads=2, inner=48, kernel=31, channels=8)


def tiny() -> MuQ:
    """Random everywhere, the running statistics of the norms included."""
    generator = torch.Generator().manual_seed(0)
    network = MuQ(TINY)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
        if name.endswith("running_var"):
            tensor.abs_().add_(0.5)
    return network.eval().requires_grad_(False)


def published(network: MuQ) -> dict[str, Tensor]:
    """A checkpoint in the published layout: the outer prefix, and parts that only training reads."""
    state = {f"model.{name}": tensor.clone() for name, tensor in network.state_dict().items()}
    surplus = ("cls_token", "linear.weight", "rvq.quantizers.0.codebook.weight", "conformer.embed_positions.inv_freq")
    return state | {f"model.{name}": torch.zeros(3) for name in surplus}


def noise(samples: int, rows: int = 1) -> Tensor:
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(1)) * 0.1


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        ours = {name: list(tensor.shape) for name, tensor in MuQ().state_dict().items()}
    theirs = below(json.loads(GOLDEN.read_text()), "model.")
    assert ours == {name: shape for name, shape in theirs.items() if not name.startswith(weights.UNUSED)}
    assert len(theirs) - len(ours) == 1 + 2 + 8 * 8 + 3 + 1  # class token, head, codebooks, positions


def test_the_spectrogram_is_librosas_in_double_precision() -> None:
    audio = noise(24_000)
    power = librosa.feature.melspectrogram(
        y=audio[0].double().numpy(), sr=24_000, n_fft=2048, hop_length=240, n_mels=128, htk=True, norm=None,
        pad_mode="reflect",
    )  # fmt: skip
    expected = 10 * np.log10(np.maximum(power, 1e-10))[:, :-1]
    np.testing.assert_allclose(mel.log_mel(audio)[0].numpy(), expected, atol=2e-4)
    assert mel.log_mel(torch.zeros(1, 24_000)).unique().tolist() == [-100.0]


def test_its_tables_are_computed_in_torchs_default_precision_and_kept_in_float32() -> None:
    rough = mel.filters()
    torch.set_default_dtype(torch.float64)
    try:
        fine, told = mel.filters(), mel.log_mel(noise(24_000))
    finally:
        torch.set_default_dtype(torch.float32)
    edges = 700 * (10 ** (np.linspace(0, 2595 * math.log10(1 + 12_000 / 700), 130) / 2595) - 1)
    distance = edges[None] - np.linspace(0, 12_000, 1025)[:, None]
    sides = np.minimum(-distance[:, :-2] / np.diff(edges)[:-1], distance[:, 2:] / np.diff(edges)[1:])
    np.testing.assert_allclose(fine.numpy(), np.maximum(sides, 0), rtol=1e-7, atol=1e-12)
    assert not torch.equal(rough, fine)
    assert torch.equal(rough, mel.filters())
    assert fine.dtype == told.dtype == torch.float32


def test_the_conformer_is_transformers_own() -> None:
    network = tiny().double()
    spectrum = torch.randn(2, 128, 301, generator=torch.Generator().manual_seed(2)).double()
    ours = network.from_mel(spectrum, TINY.layers)
    encoder_states: list[Tensor] = []
    config = Wav2Vec2ConformerConfig(
        hidden_size=TINY.width, num_hidden_layers=TINY.layers, num_attention_heads=TINY.heads,
        intermediate_size=TINY.inner, position_embeddings_type="rotary", hidden_act="swish",
        attn_implementation="eager",
    )  # fmt: skip
    encoder = Wav2Vec2ConformerEncoder(config).double().eval()
    left = encoder.load_state_dict(network.conformer.state_dict(), strict=False)
    assert not left.unexpected_keys
    assert {name.split(".")[0] for name in left.missing_keys} == {"pos_conv_embed", "embed_positions"}
    for layer in encoder.layers:
        layer.register_forward_pre_hook(lambda _, inputs: encoder_states.append(inputs[0]))
    with torch.no_grad():
        encoder_states.append(encoder(ours[0].clone()).last_hidden_state)
    assert len(ours) == len(encoder_states) == TINY.layers + 1
    for mine, theirs in zip(ours, encoder_states, strict=True):
        assert float((mine - theirs).abs().max() / theirs.abs().max()) < 1e-10
    assert len(network.from_mel(spectrum, 1)) == 2
    torch.testing.assert_close(network.from_mel(spectrum, 1)[1], ours[1], rtol=0, atol=0)


def test_the_convolutions_written_out() -> None:
    network = tiny().double()
    state = network.conv.state_dict()
    x = torch.randn(1, 1, 128, 9, generator=torch.Generator().manual_seed(3)).double()

    def conv(x: Tensor, block: int, part: int, stride: int) -> Tensor:
        name = f"conv.{block}."
        y = F.conv2d(x, state[f"{name}conv{part}.weight"], state[f"{name}conv{part}.bias"], stride, 1)
        mean, variance, scale, shift = (
            state[f"{name}bn{part}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / torch.sqrt(variance + 1e-5) * scale + shift

    y = x
    for block in (0, 1):
        inner = conv(conv(y, block, 1, 2).clamp(min=0), block, 2, 1)
        y = (conv(y, block, 3, 2) + inner).clamp(min=0)
    rows = y[0].permute(2, 0, 1).reshape(3, -1)  # a row holds the bands of one channel after another
    expected = rows @ state["linear.weight"].T + state["linear.bias"]
    torch.testing.assert_close(network.from_mel(x[:, 0], 0)[0][0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("frames", [2 * PIECE, PIECE + 1, PIECE + 7, 2 * PIECE + 10])
def test_pieces_of_a_long_spectrogram_are_one(frames: int) -> None:
    front = tiny().double().conv
    mel_frames = torch.randn(1, 128, frames, generator=torch.Generator().manual_seed(4)).double()
    whole = front.linear(front.conv(mel_frames[:, None]).permute(0, 3, 1, 2).flatten(2))
    torch.testing.assert_close(front(mel_frames), whole, rtol=0, atol=1e-12)


def test_answers_do_not_depend_on_batch_mates() -> None:
    network, audio = tiny(), noise(24_000, rows=3)
    together = network(audio)[-1]
    for row in range(3):
        torch.testing.assert_close(network(audio[row : row + 1])[-1][0], together[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [12_000, 983_040, 983_280, 3_932_160, 10_080_001, 14_400_000])
def test_states_come_at_25_hertz(samples: int) -> None:
    """0.5, 40.96, 40.97, 163.84 s, 420 s and a sample, 10 minutes: shapes alone, on the meta device."""
    with torch.device("meta"):
        states = MuQ(TINY)(torch.empty(1, samples), last=0)
    assert states[0].shape == (1, math.ceil(math.ceil(samples // 240 / 2) / 2), TINY.width)
    assert abs(states[0].shape[1] - samples / 960) < 1


def test_bad_input_is_told() -> None:
    with pytest.raises(ValueError, match="at least 1025 samples at 24000 Hz, got 1024"):
        tiny()(torch.zeros(1, 1024))
    with pytest.raises(ValueError, match="hidden states 0 to 2, not 3"):
        tiny()(torch.zeros(1, 2048), last=3)


def test_a_published_file_loads_strictly(tmp_path: Path) -> None:
    network, path = tiny(), tmp_path / "model.safetensors"
    save_file(published(network), path)
    loaded = weights.load(path)
    assert loaded.shape == TINY
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)


def test_the_pickle_of_mucodec_is_converted_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its surroundings hold objects of fairseq; only tensors come through."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "store"))
    source = tmp_path / "source" / "muq_dev" / "muq.pt"
    source.parent.mkdir(parents=True)
    network = tiny()
    torch.save({"cfg": argparse.Namespace(label_rate=25), "model": published(network), "optimizer": None}, source)
    install("mucodec-muq", tmp_path / "source", check=False)
    loaded = weights.load(held("mucodec-muq").tensors("muq_dev/muq.pt"))
    torch.testing.assert_close(loaded(noise(4800)), network(noise(4800)), rtol=0, atol=0)


def test_faults_of_a_file_are_one_sentence(tmp_path: Path) -> None:
    path, whole = tmp_path / "model.safetensors", published(tiny())
    with pytest.raises(BackendUnavailable, match="is missing"):
        weights.load(path)
    save_file({name: tensor for name, tensor in whole.items() if "layers.1.ffn2.output" not in name}, path)
    with pytest.raises(BackendUnavailable, match=r"2 missing: conformer\.layers\.1\.ffn2\.output_dense"):
        weights.load(path)
    save_file(whole | {"model.conv.linear.bias": torch.zeros(7)}, path)
    with pytest.raises(BackendUnavailable, match=r"1 of another shape: conv.linear.bias \[7\] \(not \[128\]\)"):
        weights.load(path)
    save_file(whole | {"model.conformer.layers.0.extra": torch.zeros(7)}, path)
    with pytest.raises(BackendUnavailable, match=r"1 unexpected: conformer\.layers\.0\.extra"):
        weights.load(path)
    save_file({"weight": torch.zeros(7)}, path)
    with pytest.raises(BackendUnavailable, match="has not the layout of a published MuQ file"):
        weights.load(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BackendUnavailable, match="can't be read as weights"):
        weights.load(path)
