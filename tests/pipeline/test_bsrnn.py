"""The band-split RNN: its bands, its layers against a derivation of our own, its segments, its files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.assets.store import asset
from pipeline.errors import BackendUnavailable
from pipeline.published import below
from pipeline.separation import stage
from pipeline.separation.bsrnn import weights
from pipeline.separation.bsrnn.backend import BandSplitSeparator
from pipeline.separation.bsrnn.network import BandSplitRNN, Recurrent, Shape, edges
from pipeline.separation.stage import SeparationConfig
from pipeline.types import Audio

TINY = Shape(width=4, hidden=3, layers=2, mask=5)


def build(shape: Shape = TINY) -> BandSplitRNN:
    torch.manual_seed(0)
    return BandSplitRNN(shape)


def test_bands_are_the_papers_and_tile_the_spectrum() -> None:
    bands = edges()
    assert len(bands) == 41
    assert [last for _, last in bands[:-1]] == [first for first, _ in bands[1:]]
    assert (bands[0][0], bands[-1][1]) == (0, 1025)
    wide = [round((last - first) * 44_100 / 2048, -1) for first, last in bands]
    assert min(wide[:10]) >= 80
    assert max(wide[:10]) <= 110
    assert all(abs(width - 1000) < 30 for width in wide[30:38])


def test_parameters_are_those_that_the_sizes_ask_for() -> None:
    with torch.device("meta"):
        network = BandSplitRNN()
    bins = 1025 * 4
    split = 2 * bins + bins * 128 + 41 * 128
    lstm = 2 * 4 * 256 * (128 + 256 + 2)
    sequence = 24 * (2 * 128 + lstm + 512 * 128 + 128)
    mask = 41 * 2 * 128 + 41 * (128 * 512 + 512) + (512 + 1) * 2 * bins
    assert sum(parameter.numel() for parameter in network.parameters()) == split + sequence + mask
    assert (split + sequence + mask) * 4 / 1e9 == pytest.approx(asset("bsrnn").gigabytes, rel=0.05)


def test_recurrent_layer_is_that_of_the_derivation() -> None:
    torch.manual_seed(0)
    layer = Recurrent(TINY).double()
    x = torch.randn(1, 2, 5, 4).double()
    state = layer.state_dict()
    with torch.inference_mode():
        answer = layer(x)
    for band in range(2):
        row = x[0, band]
        normed = (row - row.mean(0)) / torch.sqrt(row.var(0, correction=0) + 1e-5)
        normed = normed * state["groupnorm.weight"] + state["groupnorm.bias"]
        forward = lstm(state, normed, "")
        backward = lstm(state, normed.flip(0), "_reverse").flip(0)
        expected = row + torch.cat([forward, backward], 1) @ state["fc.weight"].T + state["fc.bias"]
        torch.testing.assert_close(answer[0, :, band], expected, rtol=1e-9, atol=1e-9)


def test_names_and_shapes_are_those_of_the_layout_that_a_file_must_have() -> None:
    """A list of our own, from the paper's sizes and the names that `weights` tells of: no published one was at hand."""
    expected: dict[str, list[int]] = {}
    for n, width in enumerate(4 * (last - first) for first, last in edges()):
        for name, size in ((f"bandsplit.layernorms.{n}", width), (f"maskest.layernorms.{n}", 128)):
            expected |= {f"{name}.weight": [size], f"{name}.bias": [size]}
        for name, ins, outs in (
            (f"bandsplit.fcs.{n}", width, 128), (f"maskest.mlp.{n}.0", 128, 512), (f"maskest.mlp.{n}.2", 512, 2 * width)
        ):  # fmt: skip
            expected |= {f"{name}.weight": [outs, ins], f"{name}.bias": [outs]}
    for name in (f"bandsequence.bsrnn.{layer}.{axis}" for layer in range(12) for axis in (0, 1)):
        expected |= {f"{name}.groupnorm.weight": [128], f"{name}.groupnorm.bias": [128]}
        for end in ("", "_reverse"):
            expected |= {f"{name}.rnn.weight_ih_l0{end}": [1024, 128], f"{name}.rnn.weight_hh_l0{end}": [1024, 256]}
            expected |= {f"{name}.rnn.bias_{part}_l0{end}": [1024] for part in ("ih", "hh")}
        expected |= {f"{name}.fc.weight": [128, 512], f"{name}.fc.bias": [128]}
    with torch.device("meta"):
        assert {name: list(tensor.shape) for name, tensor in BandSplitRNN().state_dict().items()} == expected


@pytest.mark.parametrize("frames", [0, 5])
def test_the_whole_network_written_out(frames: int) -> None:
    """In float64, band by band and frame by frame; norms run over a frame, or over a whole segment of five."""
    network = build(Shape(4, 3, 2, 5, frames)).double()
    drawn = torch.Generator().manual_seed(1)
    for tensor in network.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=drawn) * 0.5)
    state, features = network.state_dict(), torch.randn(1025, 5, 4, generator=drawn).double()

    def normed(name: str, rows: Tensor) -> Tensor:
        axes = (0, 1) if frames else (1,)
        rows = (rows - rows.mean(axes, keepdim=True)) / (rows.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
        scale, shift = (state[f"{name}.{part}"] for part in ("weight", "bias"))
        return rows * (scale.T if frames else scale) + (shift.T if frames else shift)

    def dense(name: str, rows: Tensor) -> Tensor:
        return rows @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    bands = []
    for n, (first, last) in enumerate(edges()):
        rows = torch.stack([features[first:last, frame].flatten() for frame in range(5)])
        bands.append(dense(f"bandsplit.fcs.{n}", normed(f"bandsplit.layernorms.{n}", rows)))
    x = torch.stack(bands)  # [41, 5, 4]
    for layer in range(2):
        x = recurred(below(state, f"bandsequence.bsrnn.{layer}.0."), x)
        x = recurred(below(state, f"bandsequence.bsrnn.{layer}.1."), x.transpose(0, 1)).transpose(0, 1)
    masks = []
    for n, band in enumerate(x):
        inner = torch.tanh(dense(f"maskest.mlp.{n}.0", normed(f"maskest.layernorms.{n}", band)))
        told, gate = dense(f"maskest.mlp.{n}.2", inner).chunk(2, 1)
        masks.append((told * torch.sigmoid(gate)).view(5, -1, 4).transpose(0, 1))
    with torch.inference_mode():
        answer = network(features[None])[0]
    assert answer.dtype == torch.float64
    torch.testing.assert_close(answer, torch.cat(masks), rtol=1e-9, atol=1e-9)


def recurred(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """``[rows, steps, width]``, each row by itself."""
    told = []
    for row in x:
        normed = (row - row.mean(0)) / torch.sqrt(row.var(0, correction=0) + 1e-5)
        normed = normed * state["groupnorm.weight"] + state["groupnorm.bias"]
        both = torch.cat([lstm(state, normed, ""), lstm(state, normed.flip(0), "_reverse").flip(0)], 1)
        told.append(row + both @ state["fc.weight"].T + state["fc.bias"])
    return torch.stack(told)


def lstm(state: dict[str, Tensor], x: Tensor, end: str) -> Tensor:
    """Step by step."""
    hidden = cell = torch.zeros(3).double()
    told = []
    for row in x:
        gates = state[f"rnn.weight_ih_l0{end}"] @ row + state[f"rnn.weight_hh_l0{end}"] @ hidden
        gates = gates + state[f"rnn.bias_ih_l0{end}"] + state[f"rnn.bias_hh_l0{end}"]
        enter, forget, new, leave = gates.chunk(4)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(leave) * torch.tanh(cell)
        told.append(hidden)
    return torch.stack(told)


def test_a_mask_of_one_gives_the_mixture_back_at_any_length() -> None:
    class Ones(BandSplitRNN):
        def forward(self, features: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0, 1.0, 0.0]).expand_as(features)

    separator = BandSplitSeparator(SeparationConfig(backend="bsrnn"), Ones(TINY), "", "none")
    for length in (1, 44_100, 300_000):
        samples = np.random.default_rng(0).normal(0, 0.1, (2, length)).astype(np.float32)
        (vocal,) = separator.vocals([torch.from_numpy(samples)])
        np.testing.assert_allclose(vocal.numpy(), samples, atol=2e-6)


def test_stems_add_up_and_the_same_song_gives_the_same_stems() -> None:
    separator = BandSplitSeparator(SeparationConfig(backend="bsrnn"), build(), "", "none")
    samples = np.random.default_rng(0).normal(0, 0.1, (2, 44_100)).astype(np.float32)
    first, second = separator(Audio(samples, 44_100)), separator(Audio(samples, 44_100))
    assert np.array_equal(first.vocal.samples, second.vocal.samples)
    assert first.vocal.samples.shape == (2, 48_000)
    assert np.abs(first.vocal.samples).max() > 0


@pytest.mark.parametrize("at_once", [3, 4])
def test_songs_of_unequal_lengths_share_batches_and_sound_as_alone(at_once: int) -> None:
    """Widths of 8 fill the registers as the published 256 do: odd ones are rounded by their place in memory."""
    separator = BandSplitSeparator(SeparationConfig(backend="bsrnn"), build(Shape(8, 8, 1, 8)), "", "none")
    separator.at_once, sizes = at_once, list[int]()  # as on a GPU
    separator.network.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    rng = np.random.default_rng(0)
    lengths = ((2, 44_100, 44_100), (1, 200_000, 48_000), (2, 7, 44_100), (2, 160_000, 44_100))
    songs = [Audio(rng.normal(0, 0.1, (n, length)).astype(np.float32), rate) for n, length, rate in lengths]
    songs.insert(2, Audio(np.zeros((2, 100_000), np.float32), 44_100))  # silence leaves its mates alone
    together, sizes_together = separator.batch(songs), len(sizes)
    alone = [separator(song) for song in songs]
    assert set(sizes) == {at_once}
    assert sizes_together < len(sizes) - sizes_together
    for mine, other in zip(together, alone, strict=True):
        assert np.array_equal(mine.vocal.samples, other.vocal.samples)
        assert np.array_equal(mine.accompaniment.samples, other.accompaniment.samples)
    assert np.abs(together[0].vocal.samples).max() > 0
    one_by_one = BandSplitSeparator(SeparationConfig(backend="bsrnn"), separator.network, "", "none")
    np.testing.assert_allclose(one_by_one(songs[1]).vocal.samples, alone[1].vocal.samples, atol=1e-6)


def test_in_bfloat16_the_network_alone_rounds() -> None:
    network = build(Shape(width=16, hidden=16, layers=2, mask=32))
    song = Audio(np.random.default_rng(0).normal(0, 0.1, (2, 48_000)).astype(np.float32), 48_000)
    low = SeparationConfig(backend="bsrnn", bsrnn_precision="bfloat16")
    full, half = (BandSplitSeparator(one, network, "", "")(song) for one in (SeparationConfig(backend="bsrnn"), low))
    off = half.vocal.samples - full.vocal.samples
    assert 0 < np.square(off).mean() < 1e-3 * np.square(full.vocal.samples).mean()
    np.testing.assert_allclose(half.vocal.samples + half.accompaniment.samples, song.samples, atol=1e-6)


def test_batches_follow_the_length_of_a_segment_and_the_device() -> None:
    assert stage.needs(SeparationConfig(backend="bsrnn")).songs_seconds > 0
    assert stage.needs(SeparationConfig(backend="roformer")).songs_seconds == 0
    on_gpu = SeparationConfig(backend="bsrnn", device="cuda")
    assert [stage.at_once(on_gpu, seconds) for seconds in (3.0, 6.0, 20.0)] == [4, 2, 1]
    assert stage.at_once(SeparationConfig(backend="bsrnn"), 3.0) == 1


@pytest.mark.parametrize("frames", [0, 7])
def test_a_checkpoint_says_its_sizes_itself(tmp_path: Path, frames: int) -> None:
    network = build(Shape(4, 3, 2, 5, frames))
    state = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "vocals.pt")
    loaded = weights.load(tmp_path / "vocals.pt", "state_dict")
    assert loaded.shape == network.shape
    features = torch.randn(1, 1025, 7, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(loaded(features), network(features))
    torch.save({"state_dict": state | {"model.other": torch.ones(1)}}, tmp_path / "more.pt")
    with pytest.raises(BackendUnavailable, match=r"more\.pt does not fit BandSplitRNN: 1 unexpected: other"):
        weights.load(tmp_path / "more.pt", "state_dict")
    torch.save({"state_dict": {"model.encoder.weight": torch.ones(1)}}, tmp_path / "else.pt")
    with pytest.raises(BackendUnavailable, match=r"else\.pt has not the layout of a band-split RNN"):
        weights.load(tmp_path / "else.pt", "state_dict")


def test_without_its_weights_a_person_is_told_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="bsrnn"):
        stage.build(SeparationConfig(backend="bsrnn"))
