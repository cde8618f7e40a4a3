"""MuCodec's networks: published names and shapes at true size, numbers at tiny size against transformers or by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import ChameleonVQVAEConfig, JanusVQVAEConfig, SpeechT5HifiGan, SpeechT5HifiGanConfig
from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAEEncoder
from transformers.models.janus.modeling_janus import JanusVQVAEDecoder

from pipeline.codec.mucodec import weights
from pipeline.codec.mucodec.estimator import Estimator, EstimatorShape, positions
from pipeline.codec.mucodec.flow import SIGMA, solve
from pipeline.codec.mucodec.hifigan import Vocoder, VocoderShape, synthesise
from pipeline.codec.mucodec.quantiser import Quantiser
from pipeline.codec.mucodec.resampling import halved
from pipeline.codec.mucodec.vae import Autoencoder, VaeShape
from pipeline.published import below, renamed, weight_norm_names

GOLDEN = Path(__file__).parents[1] / "golden" / "published"
SMALL_VAE = VaeShape(channels=32, multiples=(1, 2, 1), blocks=1, latents=4)
SMALL_VOCODER = VocoderShape(bands=6, channels=16, rates=(3, 2), widths=(6, 4), kernels=(3, 5))


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        spread = 1 / math.sqrt(tensor[0].numel()) if tensor.dim() > 1 else 0.3
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)
    return network.double().eval().requires_grad_(False)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def shapes(network: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def test_names_and_shapes_of_mucodecs_file_are_the_published_ones() -> None:
    """Every name in it is one of ours or one of those that decoding and encoding don't read."""
    theirs = json.loads((GOLDEN / "mucodec.json").read_text())
    with torch.device("meta"):
        assert shapes(Estimator()) == below(theirs, weights.ESTIMATOR)
        assert shapes(nn.Linear(1024, 512)) == below(theirs, weights.CONDITION)
        quantiser = shapes(Quantiser())
    published = renamed(below(theirs, weights.QUANTISER), weight_norm_names)
    assert published.pop(weights.TRAINING) == [16_384]
    assert quantiser == published
    statistics = below(theirs, weights.STATISTICS)
    assert statistics == {"counts": [1]} | {name: [32, 32] for name in ("sum_x", "sum_x2", "sum_target_x2")}
    ours = (weights.ESTIMATOR, weights.CONDITION, weights.QUANTISER, weights.STATISTICS)
    assert {name for name in theirs if not name.startswith(ours)} == set(weights.UNUSED)


def test_names_and_shapes_of_audioldms_file_are_the_published_ones() -> None:
    theirs = json.loads((GOLDEN / "audioldm48k.json").read_text())
    with torch.device("meta"):
        ours = shapes(Autoencoder()) | {f"vocoder.{name}": shape for name, shape in shapes(Vocoder()).items()}
    assert ours == theirs


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    likeness = torch.exp(query @ key.T / math.sqrt(query.shape[1]))
    return likeness / likeness.sum(1, keepdim=True) @ value


def standard(x: Tensor) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, correction=0, keepdim=True) + 1e-6)


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def derived_flow(state: dict[str, Tensor], shape: EstimatorShape, x: Tensor, time: float) -> Tensor:
    """``[ins, H, W]`` -> ``[outs, H, W]``, every step written out."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    rates = [10_000 ** (-k / 256) for k in range(256)]
    waves = torch.tensor([math.cos(1000 * time * r) for r in rates] + [math.sin(1000 * time * r) for r in rates])
    hidden = linear("adaln_single.emb.timestep_embedder.linear_1", waves.double())
    embedded = linear("adaln_single.emb.timestep_embedder.linear_2", hidden * torch.sigmoid(hidden))
    shared = linear("adaln_single.linear", embedded * torch.sigmoid(embedded)).view(6, -1)
    height, width = x.shape[1] // 2, x.shape[2] // 2
    places = torch.from_numpy(positions(shape.width, height, width)).double()
    kernel = state["pos_embed.proj.weight"].flatten(1)
    patches = [x[:, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2].flatten() for h in range(height) for w in range(width)]
    rows = torch.stack(patches) @ kernel.T + state["pos_embed.proj.bias"] + places
    for number in range(shape.layers):
        name = f"transformer_blocks.{number}"
        shift, scale, gate, shift2, scale2, gate2 = state[f"{name}.scale_shift_table"] + shared
        normal = standard(rows) * (1 + scale) + shift
        query, key, value = (linear(f"{name}.attn1.to_{part}", normal) for part in "qkv")
        heads = [slice(n * shape.head, (n + 1) * shape.head) for n in range(shape.heads)]
        mixed = torch.cat([attended(query[:, h], key[:, h], value[:, h]) for h in heads], 1)
        rows = rows + gate * linear(f"{name}.attn1.to_out.0", mixed)
        inner = gelu(linear(f"{name}.ff.net.0.proj", standard(rows) * (1 + scale2) + shift2))
        rows = rows + gate2 * linear(f"{name}.ff.net.2", inner)
    shift, scale = state["scale_shift_table"] + embedded
    rows = linear("proj_out", standard(rows) * (1 + scale) + shift).view(height, width, 2, 2, shape.outs)
    picture = torch.zeros(shape.outs, 2 * height, 2 * width).double()
    for h in range(height):
        for w in range(width):
            picture[:, 2 * h : 2 * h + 2, 2 * w : 2 * w + 2] = rows[h, w].permute(2, 0, 1)
    return picture


def test_the_estimator_written_out() -> None:
    shape = EstimatorShape(heads=2, head=8, layers=2, ins=6, outs=2)
    network, x = randomised(Estimator(shape)), draw(2, 6, 10, 8)
    answers = network(x, torch.tensor([0.3, 0.8]).double())
    for row, time in enumerate((0.3, 0.8)):
        expected = derived_flow(network.state_dict(), shape, x[row], float(torch.tensor(time)))
        # The table of time is float32 at its base, as released: 1000 radians of it are good to 1e-6.
        assert float((answers[row] - expected).abs().max() / expected.abs().max()) < 1e-5


def test_places_are_spread_over_32_units() -> None:
    """A place's first quarter are sines of its band, from the third one on of its frame; 256 frames are 32 units."""
    table = positions(16, 256, 16).reshape(256, 16, 16)
    rates = [10_000 ** (-k / 4) for k in range(4)]
    np.testing.assert_allclose(table[0, 3, :4], [math.sin(3 * 32 / 16 * r) for r in rates], atol=1e-6)
    np.testing.assert_allclose(table[100, 0, 8:12], [math.sin(100 * 32 / 256 * r) for r in rates], atol=1e-6)
    np.testing.assert_allclose(table[100, 3, 12:], [math.cos(100 * 32 / 256 * r) for r in rates], atol=1e-6)


def test_the_autoencoder_is_transformers_own() -> None:
    """Chameleon's encoder and Janus' decoder are of the same family; Janus attends on its lowest level, we don't."""
    network = randomised(Autoencoder(SMALL_VAE, scale=0.5))
    sizes = {"base_channels": 32, "channel_multiplier": [1, 2, 1], "num_res_blocks": 1, "latent_channels": 4}
    encoder = ChameleonVQVAEEncoder(ChameleonVQVAEConfig(in_channels=1, double_latent=True, resolution=64, **sizes))
    encoder.double().load_state_dict(network.encoder.state_dict())
    decoder = JanusVQVAEDecoder(JanusVQVAEConfig(out_channels=1, dropout=0.0, **sizes)).double()
    decoder.up[0].attn = nn.ModuleList()
    last = len(SMALL_VAE.multiples) - 1

    def upside_down(name: str) -> str:
        parts = name.split(".")
        return ".".join(["up", str(last - int(parts[1])), *parts[2:]]) if parts[0] == "up" else name

    decoder.load_state_dict(renamed(network.decoder.state_dict(), upside_down))
    latents, mel = draw(2, 4, 6, 4), draw(1, 1, 24, 16)
    with torch.no_grad():
        theirs = decoder(network.post_quant_conv(latents / 0.5))
        mean, logarithm = network.quant_conv(encoder(mel)).chunk(2, 1)
    torch.testing.assert_close(network.decode(latents), theirs, rtol=1e-9, atol=1e-9)
    assert network.decode(latents).shape == (2, 1, 24, 16)
    for ours, expected in zip(network.moments(mel), (mean, torch.exp(logarithm / 2)), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_the_vocoder_is_transformers_own() -> None:
    network = randomised(Vocoder(SMALL_VOCODER))
    config = SpeechT5HifiGanConfig(
        model_in_dim=6,
        upsample_initial_channel=16,
        upsample_rates=[3, 2],
        upsample_kernel_sizes=[6, 4],
        resblock_kernel_sizes=[3, 5],
        resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
        normalize_before=False,
    )
    theirs = SpeechT5HifiGan(config).double().eval()
    state = {name.replace("ups.", "upsampler."): tensor for name, tensor in network.state_dict().items()}
    assert theirs.load_state_dict(state, strict=False).unexpected_keys == []
    mel = draw(2, 6, 11)
    with torch.no_grad():
        torch.testing.assert_close(network(mel), theirs(mel.transpose(1, 2)), rtol=1e-9, atol=1e-9)
    assert SMALL_VOCODER.samples_per_frame == 6
    assert VocoderShape().samples_per_frame == 480


def test_chunks_of_sound_are_faded_into_each_other() -> None:
    """By the released code's plan, written out: 1024 frames every 256, of whole chunks' length."""
    network, mel = randomised(Vocoder(SMALL_VOCODER)), draw(1, 6, 1536)
    parts = [network(mel[:, :, start : start + 1024])[:, : 1024 * 6] for start in (0, 256, 512)]
    expected, rise = parts[0], torch.linspace(0, 1, 768 * 6, dtype=torch.float64)
    for part in parts[1:]:
        kept, crossing = expected[:, : -768 * 6], expected[:, -768 * 6 :] * (1 - rise) + part[:, : 768 * 6] * rise
        expected = torch.cat([kept, crossing, part[:, 768 * 6 :]], 1)
    assert expected.shape[1] == 1536 * 6
    torch.testing.assert_close(synthesise(network, mel), expected, rtol=1e-12, atol=1e-12)


def test_nearest_codes_by_angle() -> None:
    network, states = randomised(Quantiser(width=12, codes=50, inner=4)), draw(2, 40, 12)
    names = network.state_dict()

    def projected(name: str) -> Tensor:
        gain, direction = (names[f"{name}.parametrizations.weight.original{half}"][..., 0] for half in (0, 1))
        return gain * direction / direction.norm(dim=1, keepdim=True)

    points = states @ projected("in_proj").T + names["in_proj.bias"]
    centres = names["codebook.weight"]
    cosine = (points / points.norm(dim=-1, keepdim=True)) @ (centres / centres.norm(dim=1, keepdim=True)).T
    codes = network.encode(states)
    assert torch.equal(codes, cosine.argmax(-1))
    assert len(codes.unique()) > 10
    torch.testing.assert_close(network.points(states), points, rtol=1e-10, atol=1e-10)
    expected = centres[codes] @ projected("out_proj").T + names["out_proj.bias"]
    torch.testing.assert_close(network.restored(centres[codes]), expected, rtol=1e-10, atol=1e-10)
    names["codebook.weight"][1] = names["codebook.weight"][0]  # two centres of the same direction: the first one
    assert 1 not in network.encode(states)


@pytest.mark.parametrize("samples", [24_000, 1001, 26])
def test_resampling_is_the_sum_it_says(samples: int) -> None:
    audio, answer = draw(1, samples), halved(draw(1, samples))[0]
    assert len(answer) == -(-samples // 2)
    for place in (0, 5, len(answer) - 1):
        total = 0.0
        for n in range(max(0, 2 * place - 13), min(samples, 2 * place + 15)):
            t = min(6.0, max(-6.0, (n - 2 * place) / 2 * 0.99))
            sinc = 1.0 if t == 0 else math.sin(math.pi * t) / (math.pi * t)
            total += float(audio[0, n]) * sinc * math.cos(math.pi * t / 12) ** 2 * 0.99 / 2
        assert float(answer[place]) == pytest.approx(total, abs=1e-6)


def test_the_solver_in_closed_form() -> None:
    """A flow of minus the picture shrinks it by (1 - 1/N) a step; guidance 1.5 of a flow that is the condition itself
    adds 1.5 times the condition; what is given stays."""
    noise, condition = draw(2, 3, 8, 4), draw(2, 3, 8, 4, seed=2)
    context = torch.zeros_like(noise)
    context[:, :, :3] = draw(2, 3, 3, 4, seed=3)
    shrunk = solve(lambda x, _: -x[:, :3], noise, context, 0, condition, guidance=1.0, steps=5)
    torch.testing.assert_close(shrunk, noise * 0.8**5, rtol=1e-6, atol=1e-6)
    led = solve(lambda x, _: x[:, 6:], noise, context, 3, condition, guidance=1.5, steps=7)
    torch.testing.assert_close(led[:, :, 3:], (noise + 1.5 * condition)[:, :, 3:], rtol=1e-6, atol=1e-6)
    assert torch.equal(led[:, :, :3], context[:, :, :3])


def test_given_frames_are_on_their_own_path_at_every_step() -> None:
    noise, seen = draw(1, 2, 6, 4), list[tuple[float, Tensor]]()
    context = torch.zeros_like(noise)
    context[:, :, :2] = 5.0

    def flow(x: Tensor, time: Tensor) -> Tensor:
        seen.append((float(time[0]), x[:, :2, :2]))
        return torch.ones_like(x[:, :2])

    solve(flow, noise, context, 2, torch.zeros_like(noise), guidance=1.0, steps=4)
    assert [time for time, _ in seen] == [0.0, 0.25, 0.5, 0.75]
    for time, frames in seen:
        expected = (1 - (1 - SIGMA) * time) * noise[:, :, :2] + time * context[:, :, :2]
        torch.testing.assert_close(frames, expected, rtol=1e-6, atol=1e-6)
