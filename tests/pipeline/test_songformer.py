"""SongFormer's port: published names and shapes, numbers against a derivation of our own, windows, peaks and rules."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_transformer import attention, gelu, linear, norm
from safetensors.torch import save_file
from tiny_mucodec import randomised
from torch import Tensor, nn

from pipeline.assets.needs import Needs
from pipeline.encoders.muq.network import MuQ, MuQShape
from pipeline.encoders.musicfm import MusicFM
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.published import below
from pipeline.structure import stage
from pipeline.structure.songformer import frames, segments, weights
from pipeline.structure.songformer.backend import SongFormerStructure, sections
from pipeline.structure.songformer.network import Shape, SongFormer
from pipeline.structure.stage import Structure, StructureConfig
from pipeline.types import Audio, Section

GOLDEN = Path(__file__).parents[1] / "golden" / "published" / "songformer.json"
TINY = Shape(streams=32, fused=16, down=12, width=8, layers=2, heads=2, head=8)
WIDER = replace(TINY, streams=256)  # for listeners whose width is a multiple of 64, as every published one's
RATE = frames.RATE


def build(shape: Shape = TINY) -> SongFormer:
    torch.manual_seed(0)
    network = SongFormer(shape)
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.normal_(parameter)
    return network


@pytest.fixture(scope="module")
def tiny() -> SongFormer:
    return build().double()


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        ours = {name: list(tensor.shape) for name, tensor in SongFormer().state_dict().items()}
    assert ours == json.loads(GOLDEN.read_text())


def derived(state: dict[str, Tensor], streams: Tensor) -> tuple[Tensor, Tensor]:
    """``[T, 32]`` -> logits, every step written out."""
    x = norm(state, "input_norm", linear(state, "mixed_win_downsample", streams), 1e-5)
    triples = x[: len(x) // 3 * 3].unflatten(0, (-1, 3))  # [T / 3, 3, 16]
    deep = (triples * state["down_sample_conv.depthwise_conv.weight"][:, 0].T).sum(1)
    x = deep @ state["down_sample_conv.pointwise_conv.weight"][:, :, 0].T
    x = x + triples.mean(1) @ state["down_sample_conv.residual_conv.weight"][:, :, 0].T
    x = gelu(norm(state, "down_sample_conv.norm1", x, 1e-5)) + state["dataset_class_prefix.weight"][5]
    x = linear(state, "transformer.input_proj.0", x)
    x = linear(state, "transformer.input_proj.4", gelu(norm(state, "transformer.input_proj.1", x, 1e-5)))
    inner = below(state, "transformer.transformer.")
    for number in range(4):
        block = below(inner, f"layers.{number}.")
        y = F.layer_norm(x, (8,)) * (1 + block["0.0.gamma"])
        if number % 2:
            x = x + linear(block, "1.ff.2", gelu(linear(block, "1.ff.0.0", y)))
        else:
            query, key, value = (y @ block[f"1.to_{part}.weight"].T for part in "qkv")
            turns = (spun(part, inner["rotary_pos_emb.inv_freq"]) for part in (query, key))
            x = x + attention(*turns, value, heads=2) @ block["1.to_out.weight"].T
    x = F.layer_norm(x, (8,)) * (1 + inner["final_norm.gamma"])
    return linear(state, "boundary_head.net.0", x)[:, 0], linear(state, "function_head.net.0", x)


def spun(x: Tensor, frequencies: Tensor) -> Tensor:
    """Of each head of 8 the first four numbers are two complex ones, turned by position times frequency."""
    heads = x.reshape(len(x), 2, 8).clone()
    numbers = torch.view_as_complex(heads[..., :4].reshape(len(x), 2, 2, 2).contiguous())
    angles = torch.arange(len(x)).double()[:, None] * frequencies
    numbers = numbers * torch.polar(torch.ones_like(angles), angles)[:, None]
    heads[..., :4] = torch.view_as_real(numbers).flatten(-2)
    return heads.flatten(1)


def test_numbers_are_those_of_the_derivation(tiny: SongFormer) -> None:
    streams = torch.randn(50, 32, generator=torch.Generator().manual_seed(1)).double()
    with torch.inference_mode():
        boundary, function = tiny(streams[None], torch.tensor([5]))
    expected = derived(dict(tiny.state_dict()), streams)
    torch.testing.assert_close(boundary[0], expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(function[0], expected[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("length", "whole", "parts"),
    [
        (0.5 * RATE, [0.5], [0.5]),
        (163.84 * RATE, [163.84], [30] * 5 + [13.84]),
        (420 * RATE, [420], [30] * 14),
        (420 * RATE + 1, [420], [30] * 14),
        (420 * RATE + 1024, [420], [30] * 14),
        (420 * RATE + 1025, [420, 1025 / RATE], [30] * 14),
        (600 * RATE, [420, 180], [30] * 14),
    ],
)
def test_windows(length: float, whole: list[float], parts: list[float]) -> None:
    cut = frames.stretches(round(length))
    assert [end - begin for begin, end in cut] == [round(seconds * RATE) for seconds in whole]
    assert [begin for begin, _ in cut] == [420 * RATE * number for number in range(len(whole))]
    first = frames.pieces(cut[0][1])
    assert [end - begin for begin, end in first] == [round(seconds * RATE) for seconds in parts]


def ears(gain: float) -> frames.Listener:
    """25 states a second that tell the frame's number within what was heard, its level, and who heard it."""

    def listen(sounds: Sequence[Tensor], pieces: bool) -> list[Tensor]:
        assert all(len(sound) <= (30 if pieces else 420) * RATE for sound in sounds)
        return [told(sound) for sound in sounds]

    def told(sound: Tensor) -> Tensor:
        count = len(sound) // 960
        level = sound[: count * 960].unflatten(0, (count, 960)).mean(1)
        place = torch.arange(count).to(level)
        return torch.stack([place, level, torch.full_like(level, gain), torch.zeros_like(level)], dim=-1)

    return listen


def test_streams_stand_in_their_published_order_and_pieces_are_heard_apart() -> None:
    samples = torch.arange(70 * RATE) / (70 * RATE)
    _, streams = frames.heard(ears(1.0), ears(2.0), [samples[: 31 * RATE], samples])
    assert streams.shape == (1750, 16)
    assert streams[0, [2, 6, 10, 14]].tolist() == [1.0, 2.0, 1.0, 2.0]  # MusicFM, MuQ; MusicFM, MuQ
    assert streams[:, 0].tolist() == [*range(750), *range(750), *range(250)]
    assert streams[:, 8].tolist() == [*range(1750)]
    torch.testing.assert_close(streams[:, 1], streams[:, 9])  # the same sound


def test_a_seam_is_the_mean_of_both_stretches_and_nothing_is_beyond_the_end() -> None:
    def listen(streams: Tensor, data_set: Tensor) -> tuple[Tensor, Tensor]:
        level = streams[:, 1::3, 9][:, : streams.shape[1] // 3]
        return level, level[..., None].expand(-1, -1, 128)

    samples = torch.cat([torch.full((420 * RATE,), 1.0), torch.full((90 * RATE,), 4.0)])
    first = samples[: 31 * RATE]  # another song before it
    _, (boundary, function) = frames.logits(listen, ears(0.0), ears(0.0), [first, samples])  # type: ignore[arg-type]
    assert len(boundary) == len(function) == 3499 + 750
    np.testing.assert_allclose(boundary, [1.0] * 3499 + [2.5] + [4.0] * 749, rtol=1e-6)
    assert np.array_equal(boundary, function[:, 7])


def test_streams_that_differ_too_much_are_refused() -> None:
    short, long = torch.zeros(10, 4), torch.zeros(15, 4)
    assert frames.fitted([short, long[:14]]).shape == (10, 8)
    with pytest.raises(ValueError, match=r"\[10, 15\] frames; they may differ by 4"):
        frames.fitted([short, long])


def naive_peaks(values: list[float]) -> list[int]:
    """Frame by frame, as the definition says it."""
    reach, found = segments.REACH, []
    local = [v if v == max(values[max(0, i - 1) : i + 2]) else 0.0 for i, v in enumerate(values)]
    padded = [0.0] * reach + local + [0.0] * reach
    for i, value in enumerate(local):
        before, after = padded[i : i + reach], padded[i + reach + 1 : i + 2 * reach + 1]
        mean = (sum(before) / reach + sum(after) / reach) / 2
        if value > 0 and value >= max(before) and value >= max(after) and value > mean:
            found.append(i)
    return found


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]), min_size=1, max_size=400))
def test_peaks_are_those_of_the_definition(values: list[float]) -> None:
    assert segments.peaks(np.array(values)).tolist() == naive_peaks(values)


def test_labels_are_the_likeliest_of_the_eight_between_boundaries() -> None:
    boundary = -6.0 - np.arange(500) / 1000  # falling: no peak but those that follow
    boundary[[0, 200, 350]] = 2.0
    function = np.zeros((500, 128))
    function[:, 60] = 50.0  # no label of the Harmonix eight
    function[:200, 0] = 3.0
    function[200:350, 26] = 2.0
    function[350:, 2] = 1.0
    expected = [(0.0, "intro"), (200 / 8.333, "pre-chorus"), (350 / 8.333, "chorus"), (500 / 8.333, "end")]
    assert segments.marks(boundary, function) == expected
    assert [label for _, label in segments.marks(boundary[1:41], function[:40])] == ["intro", "end"]


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ("0 intro 0.5 verse 30 chorus 60 end", "0 verse 30 chorus 60 end"),
        ("0 intro 20 verse 59.5 outro 60 end", "0 intro 20 verse 60 end"),
        ("0 intro 8 intro 30 verse 60 end", "0 intro 30 verse 60 end"),
        ("0 intro 12 intro 30 verse 60 end", "0 intro 12 intro 30 verse 60 end"),
        ("0 intro 20 outro 52 outro 60 end", "0 intro 20 outro 60 end"),
        ("0 intro 0.5 end", "0 intro 0.5 end"),
    ],
)
def test_rules_at_the_edges(told: str, left: str) -> None:
    def parsed(text: str) -> list[segments.Mark]:
        words = text.split()
        return [(float(time), label) for time, label in zip(words[::2], words[1::2], strict=True)]

    assert segments.ruled(parsed(told)) == parsed(left)


def test_sections_tile_the_song_whatever_its_frames_say() -> None:
    told: list[segments.Mark] = [(0.0, "intro"), (10.0, "verse"), (20.5, "outro"), (20.6, "end")]
    assert sections(told, 20.2) == (Section(0.0, 10.0, "intro"), Section(10.0, 20.2, "verse"))
    assert sections(told, 30.0)[-1] == Section(20.5, 30.0, "outro")


def listeners() -> tuple[MusicFM, MuQ]:
    shape = MuQShape(width=64, layers=11, heads=1, inner=16, kernel=3, channels=1)
    first, second = (cast(MuQ, randomised(MuQ(shape), seed)) for seed in (1, 2))
    return MusicFM(first, 6.0, 18.0), second


class Rest:
    name, config, backend, weights_sha256, licence = "structure", StructureConfig(), "rest", "", "Apache-2.0"

    def __call__(self, audio: Audio, vocal_active: object = None) -> Structure:
        return Structure((), (0.5, 1.0), (0.5,), 120.0, "C major")


def test_backend_takes_sections_from_songformer_and_the_rest_from_elsewhere() -> None:
    backend = SongFormerStructure(StructureConfig(), build(WIDER), *listeners(), Rest(), "0" * 64, "CC-BY-4.0")
    samples = np.random.default_rng(0).normal(0, 0.1, (2, 44_100 * 5)).astype(np.float32)
    answer = backend(Audio(samples, 44_100))
    assert (answer.beats, answer.tempo, answer.key) == ((0.5, 1.0), 120.0, "C major")
    assert (answer.sections[0].start, answer.sections[-1].end) == (0.0, 5.0)
    assert backend.licence == "CC-BY-4.0; beats and key Apache-2.0"
    with pytest.raises(BadInput, match="needs 2 s"):
        backend(Audio(samples[:, :44_100], 44_100))


def test_logits_are_those_that_a_song_has_alone() -> None:
    """Songs of half a second to 41 s, bit for bit alike whoever comes with them."""
    backend = SongFormerStructure(StructureConfig(), build(WIDER), *listeners(), Rest(), "0" * 64, "CC-BY-4.0")
    generator = torch.Generator().manual_seed(2)
    songs = [0.1 * torch.randn(samples, generator=generator) for samples in (12_000, 41 * RATE, 30 * RATE, 98_321)]

    def told(*numbers: int) -> list[tuple[frames.Floats, frames.Floats]]:
        ears = (
            backend._listener(backend.first, backend.first.network),
            backend._listener(backend.second, backend.second),
        )
        return frames.logits(backend.network, *ears, [songs[number] for number in numbers])

    released = told(0, 1, 2, 3)
    backend.size = Needs(batch_seconds=90.0).batch_size  # as on a GPU: three pieces of 30 s, nine short songs of 10 s
    alone = [told(number)[0] for number in range(4)]
    for order in ((0, 1, 2, 3), (3, 1)):
        for number, found in zip(order, told(*order), strict=True):
            assert all(np.array_equal(one, other) for one, other in zip(found, alone[number], strict=True))
    for one, other in zip(alone, released, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            assert np.abs(mine - theirs).max() < 1e-5 * np.abs(theirs).max()
    assert len({len(boundary) for boundary, _ in alone}) == 4


def test_several_songs_are_analysed_each_with_its_own_voice() -> None:
    class Echo(Rest):
        def __call__(self, audio: Audio, vocal_active: object = None) -> Structure:
            return Structure((), (), (), float(str(vocal_active)), "C major")

    backend = SongFormerStructure(StructureConfig(), build(WIDER), *listeners(), Echo(), "0" * 64, "CC-BY-4.0")
    backend.size = Needs(batch_seconds=60.0).batch_size
    songs = [Audio(np.full((1, seconds * RATE), 0.1, np.float32), RATE) for seconds in (4, 2, 3)]
    found = stage.analyse(backend, [(song, number) for number, song in enumerate(songs)])  # type: ignore[misc]
    assert [(one.tempo, one.sections[-1].end) for one in found] == [(0.0, 4.0), (1.0, 2.0), (2.0, 3.0)]
    short = Audio(np.zeros((1, RATE), np.float32), RATE)
    with pytest.raises(BadInput, match=r"needs 2 s of audio, got 1\.00 s"):
        backend.batch([(songs[0], None), (short, None)])
    assert [stage.needs(StructureConfig(backend="songformer")).batch_size(s) for s in (30.0, 210.0, 420.0)] == [
        14,
        2,
        1,
    ]


def test_sizes_are_read_off_the_published_tensors() -> None:
    shapes = {name: torch.empty(shape, device="meta") for name, shape in json.loads(GOLDEN.read_text()).items()}
    assert weights.shape_of(shapes, "file") == Shape()
    frequencies = "transformer.transformer.rotary_pos_emb.inv_freq"
    with pytest.raises(BackendUnavailable, match="512 numbers are no whole heads of 12"):
        weights.shape_of(shapes | {frequencies: torch.empty(3, device="meta")}, "file")


def test_published_checkpoint_is_the_moving_average(tmp_path: Path) -> None:
    state = {name: tensor.contiguous() for name, tensor in build().state_dict().items()}
    wrapped = {f"ema_model.{name}": tensor for name, tensor in state.items()}
    save_file(wrapped | {"step": torch.tensor(7), "initted": torch.tensor(True)}, tmp_path / "s.safetensors")
    loaded = weights.load(tmp_path / "s.safetensors").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    save_file(state, tmp_path / "bare.safetensors")
    with pytest.raises(BackendUnavailable, match=r"bare\.safetensors has not the layout of SongFormer's file"):
        weights.load(tmp_path / "bare.safetensors")
    bent = wrapped | {"ema_model.boundary_head.net.0.bias": torch.zeros(2)}
    save_file(bent, tmp_path / "bent.safetensors")
    with pytest.raises(
        BackendUnavailable, match=r"1 of another shape: boundary_head\.net\.0\.bias \[2\] \(not \[1\]\)"
    ):
        weights.load(tmp_path / "bent.safetensors")


def test_without_its_weights_the_command_that_brings_them_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="backline assets pull songformer"):
        stage.build(StructureConfig(backend="songformer"))
