"""MuCodec as a codec: its contract, its phases, batches of songs, files in the published formats and their faults."""

import copy
import dataclasses
import math
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_mucodec import INNER, write
from torch import Tensor

from pipeline.assets.pull import install
from pipeline.assets.store import VARIABLE
from pipeline.batching import remarks
from pipeline.codec.codec import CodecConfig, Codes, build, continuous, needs, token_count, weights_sha256
from pipeline.codec.mucodec import weights
from pipeline.codec.mucodec.backend import MuCodec
from pipeline.codec.mucodec.settings import MuCodecConfig
from pipeline.codec.mucodec.windows import decoding_windows
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio

FAST = MuCodecConfig(steps=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``mucodec.pt`` and ``audioldm_48k.pth`` in the published layout, of tiny networks."""
    return write(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def codec(files: Path, tmp_path_factory: pytest.TempPathFactory) -> MuCodec:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(tmp_path_factory.mktemp("store")))
        install("mucodec", files, check=False)
        install("mucodec-vae", files, check=False)
        config = CodecConfig(backend="mucodec", mucodec=FAST)
        built = build(config)
        assert isinstance(built, MuCodec)
        assert built.spec.weights_sha256 == weights_sha256(config)
        # Random networks give nearly one point for every sound: centres where they are, so that codes differ.
        built.networks.quantiser.codebook.weight[:51] = torch.from_numpy(built.latents(noise(96_000)))
        return built


def noise(samples: int, channels: int = 1, seed: int = 0) -> Audio:
    """Tones and noise, another mixture every tenth of a second."""
    rng, pieces = np.random.default_rng(seed), -(-samples // 4800)
    levels, tones = np.repeat(rng.uniform(-3, -0.5, (2, pieces)), 4800, axis=1)[:, :samples]
    hertz = 10 ** (2 - tones / 2)
    values = 10**levels * rng.normal(0, 0.3, (channels, samples)) + 0.2 * np.sin(np.cumsum(hertz) * math.tau / 48_000)
    return Audio(values.astype(np.float32), 48_000)


def codes_of(count: int, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(0, 16_384, count).astype(np.uint16)


def with_settings(codec: MuCodec, settings: MuCodecConfig) -> MuCodec:
    return MuCodec(codec.networks, settings)


def test_its_files_are_found_and_named(codec: MuCodec) -> None:
    spec = codec.spec
    assert (spec.name, spec.window_tokens, spec.hop_samples, spec.phases) == ("mucodec", 1024, 1_966_560, 1)
    assert "mucodec CC-BY-NC-4.0 (non-commercial, accepted)" in spec.licence
    assert "mucodec-vae CC-BY-NC" in spec.licence
    assert codec.networks.vae.scale == pytest.approx(0.4)
    assert float(codec.networks.statistics.mean.unique()) == 2.0
    assert float(codec.networks.statistics.deviation.unique()) == 1.0
    assert needs(CodecConfig(backend="mucodec")).assets == ("mucodec", "mucodec-vae")
    assert needs(CodecConfig()).assets == ()


def test_statistics_of_latents_far_from_zero_are_those_of_float64() -> None:
    count, mean, deviation = 150_000.0, 40.0, 0.25
    state = {
        "counts": torch.tensor([count]),
        "sum_x": torch.full((32, 32), mean * count),
        "sum_x2": torch.full((32, 32), (mean**2 + deviation**2) * count),
    }
    told = weights.statistics(state, "here")
    assert (told.mean == mean).all()
    squares = float(state["sum_x2"][0, 0]) / count
    assert float(told.deviation.unique()) == pytest.approx(math.sqrt(squares - mean**2), rel=1e-12)


def test_a_loud_song_is_levelled_in_the_networks_precision(codec: MuCodec) -> None:
    loud = Audio(noise(48_000, channels=2).samples * np.float32(20), 48_000)
    double = dataclasses.replace(codec.networks, muq=copy.deepcopy(codec.networks.muq).double())
    levelled = MuCodec(double, FAST)._usable(loud).numpy()
    exact = loud.samples.astype(np.float64)
    np.testing.assert_allclose(levelled, exact / np.abs(exact).max() * 0.8, rtol=1e-14)
    assert codec._usable(loud).dtype == torch.float32


@pytest.mark.parametrize("samples", [24_000, 1920, 1, 1_966_081])
def test_codes_of_a_song(codec: MuCodec, samples: int) -> None:
    audio = noise(samples, channels=2)
    codes = codec.encode(audio)
    assert codes.dtype == np.uint16
    assert codes.shape == (1, token_count(samples))
    assert int(codes.max()) < 16_384


def test_a_short_song_is_encoded_as_its_repetition(codec: MuCodec) -> None:
    """40 ms frames far from the edges of 2 s that repeat have the codes of those 2 s; mono is stereo twice."""
    audio = noise(96_000)
    codes = codec.encode(audio)[0]
    long = codec.encode(Audio(np.tile(audio.samples, 2), 48_000))[0]
    assert np.array_equal(long[:50], codes[:50])
    both = Audio(np.repeat(audio.samples, 2, axis=0), 48_000)
    assert np.array_equal(codec.encode(both)[0], codes)
    assert len(set(codes.tolist())) > 20


def test_codes_are_nearest_to_its_latents(codec: MuCodec) -> None:
    audio = noise(96_000)
    latents, centres = continuous(codec).latents(audio), codec.centroids()
    assert latents.shape == (51, INNER)
    assert centres.shape == (16_384, INNER)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (latents, centres)]
    likeness = unit[0] @ unit[1].T
    chosen = likeness[np.arange(51), codec.encode(audio)[0]]
    np.testing.assert_allclose(chosen, likeness.max(axis=1), atol=1e-6)


def test_phases_begin_where_the_crops_expect_them(codec: MuCodec) -> None:
    """Phase 1 of 2: phase 0's codes for half a window, then those of the song from there on, levelled as a whole."""
    settings = FAST.model_copy(update={"phases": 2, "windows": "zero_pad"})
    shifted = with_settings(codec, settings)
    assert (shifted.spec.phases, shifted.spec.hop_samples) == (2, 1_966_080)
    audio = noise(1_200_000)
    codes = shifted.encode(audio)
    assert codes.shape == (2, 626)
    assert np.array_equal(codes[0, :512], codes[1, :512])
    alone = with_settings(codec, settings.model_copy(update={"phases": 1}))
    assert np.array_equal(codes[0], alone.encode(audio)[0])
    rest = Audio(audio.samples[:, 983_040:], 48_000)
    assert np.array_equal(codes[1, 512:], alone.encode(rest)[0])
    short = noise(48_000)  # no window of phase 1 begins in it
    assert np.array_equal(shifted.encode(short)[1], shifted.encode(short)[0])


@pytest.mark.parametrize(
    ("settings", "lengths", "windows"),
    [
        ({}, (1_966_560, 96_000), 3),
        ({"phases": 3, "windows": "zero_pad"}, (700_000, 96_000), 3),  # one hears the second
    ],
)
def test_songs_of_unequal_lengths_share_batches_and_have_their_codes_alone(
    codec: MuCodec, settings: dict[str, object], lengths: tuple[int, ...], windows: int
) -> None:
    shared = with_settings(codec, MuCodecConfig.model_validate(settings))
    shared.encoded_at_once = 2  # as on a GPU
    songs = [noise(samples, seed=seed) for seed, samples in enumerate(lengths)]
    songs[1] = Audio(np.zeros_like(songs[1].samples), 48_000)  # silence leaves its mates alone
    sizes: list[int] = []
    hook = codec.networks.muq.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    together = shared.encode_batch(iter(songs))
    assert sizes == [2] * -(-windows // 2)
    points = shared.latents_batch(songs)
    for song, codes in zip(songs, together, strict=True):
        assert np.array_equal(codes, shared.encode(song))
        assert codes.shape == (shared.config.phases, token_count(song.length))
    assert np.array_equal(points[-1], shared.latents(songs[-1]))
    hook.remove()
    assert set(sizes) == {2}
    assert len(np.unique(together[0])) > 20


def test_it_encodes_fewer_windows_at_once_where_memory_runs_out(codec: MuCodec) -> None:
    small = with_settings(codec, FAST)
    small.encoded_at_once = 3

    def room(module: object, args: tuple[Tensor, ...]) -> None:
        if len(args[0]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = codec.networks.muq.register_forward_pre_hook(room)
    with remarks() as made:
        (codes,) = small.encode_batch([noise(96_000)])
    hook.remove()
    assert made == ["MuQ: batch 3 -> 1, out of GPU memory"]
    assert codes.shape == (1, 51)


def test_what_it_can_not_take_is_told(codec: MuCodec) -> None:
    with pytest.raises(ValueError, match="takes 48000 Hz, got 44100 Hz"):
        codec.encode(Audio(np.zeros((1, 100), np.float32), 44_100))
    with pytest.raises(ValueError, match="at least one sample"):
        codec.encode(Audio(np.zeros((1, 0), np.float32), 48_000))
    for bad in (np.zeros((1, 3), np.uint16), np.zeros(0, np.uint16), np.full(3, 16_384, np.uint16)):
        with pytest.raises(ValueError, match=r"codes must be \[T\] below 16384"):
            codec.decode(bad)
    with pytest.raises(ValueError, match=r"latents must be \[T, 4\]"):
        codec.decode_latents(np.zeros((3, 5), np.float32))


def test_windows_of_latents_go_on_where_the_last_one_ended(codec: MuCodec) -> None:
    """Two songs at once, of two windows and of one: the same latents as alone, and an overlap that is the same."""
    songs = [codec.points(codes_of(1030)), codec.points(codes_of(20, seed=1))]
    noises = [torch.randn(n, 32, 512, 32, generator=torch.Generator().manual_seed(n)) for n in (2, 1)]
    windows = [decoding_windows(points.T) for points in songs]
    with torch.inference_mode():
        together = codec.pictures(windows, noises)
        alone = codec.pictures(windows[1:], noises[1:])
    assert [len(song) for song in together] == [2, 1]
    first, second = together[0]
    assert first.shape == second.shape == (32, 512, 32)
    torch.testing.assert_close(second[:, :128], first[:, -128:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone[0][0], together[1][0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(first, together[1][0])


def test_sound_of_latents(codec: MuCodec) -> None:
    """16 latent frames are 128 spectrogram frames; two ears of 16 channels each."""
    latents = torch.randn(32, 16, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        sound = codec.heard(latents)
        left = codec.networks.vae.decode(latents[None, :16])[:, 0].transpose(1, 2)
        expected = codec.networks.vocoder(left)[0]
    assert sound.shape == (2, 128 * 480)
    torch.testing.assert_close(sound[0], expected[: sound.shape[1]], rtol=1e-4, atol=1e-5)
    assert float(sound.abs().max()) <= 1.0


def test_noise_is_the_same_for_the_same_codes_alone(codec: MuCodec) -> None:
    same, other, seeded = (
        with_settings(codec, FAST)._noise(b"ab", 1030),
        codec._noise(b"ac", 1030),
        with_settings(codec, FAST.model_copy(update={"seed": 1}))._noise(b"ab", 1030),
    )
    assert same.shape == (2, 32, 512, 32)
    assert torch.equal(same, codec._noise(b"ab", 1030))
    assert not torch.equal(same, other)
    assert not torch.equal(same, seeded)


@pytest.mark.slow
def test_decoding_in_full(codec: MuCodec) -> None:
    """Codes to sound of exactly 1920 samples each, twice the same; and points that are centres sound like codes."""
    codes = codes_of(13)
    audio = codec.decode(codes)
    assert (audio.channels, audio.length, audio.sample_rate) == (2, 13 * 1920, 48_000)
    assert np.array_equal(codec.decode(codes).samples, audio.samples)
    assert 0 < float(np.abs(audio.samples).max()) <= 1.0
    assert float(np.abs(audio.samples[0] - audio.samples[1]).max()) > 0
    assert codec.decode_latents(codec.centroids()[codes]).length == 13 * 1920


def load(folder: Path, state: dict[str, Tensor], stage: dict[str, Tensor]) -> weights.Networks:
    save_file(state, folder / "mucodec.safetensors")
    save_file(stage, folder / "vae.safetensors")

    def muq() -> Path:
        raise BackendUnavailable("MuCodec's own MuQ (mucodec-muq) is not on this machine")

    return weights.load(folder / "mucodec.safetensors", folder / "vae.safetensors", muq)


def test_faults_of_the_files_are_one_sentence(files: Path, tmp_path: Path) -> None:
    state = torch.load(files / "ckpt" / "mucodec.pt", weights_only=True)
    with torch.serialization.safe_globals([Namespace]):
        stage = torch.load(files / "tools" / "audioldm_48k.pth", weights_only=True)["state_dict"]
    load(tmp_path, state, stage)
    without = {name: tensor for name, tensor in state.items() if not name.startswith(weights.MUQ)}
    with pytest.raises(BackendUnavailable, match="mucodec-muq"):
        load(tmp_path, without, stage)
    block = f"{weights.ESTIMATOR}transformer_blocks.0.ff.net.2.bias"
    with pytest.raises(BackendUnavailable, match=r"1 missing: transformer_blocks\.0\.ff\.net\.2\.bias"):
        load(tmp_path, {name: tensor for name, tensor in state.items() if name != block}, stage)
    with pytest.raises(BackendUnavailable, match=r"1 of another shape: transformer_blocks.*\[5\] \(not \[72\]\)"):
        load(tmp_path, state | {block: torch.zeros(5)}, stage)
    with pytest.raises(BackendUnavailable, match="its statistics of latents are of no sample"):
        load(tmp_path, state | {"normfeat.counts": torch.zeros(1)}, stage)
    with pytest.raises(BackendUnavailable, match=r"1 unexpected: post_quant_conv\.extra"):
        load(tmp_path, state, stage | {"first_stage_model.post_quant_conv.extra": torch.zeros(1)})
    with pytest.raises(BackendUnavailable, match="has not the layout of the published MuCodec file: 'scale_factor'"):
        load(tmp_path, state, {name: tensor for name, tensor in stage.items() if name != "scale_factor"})
    cut = tmp_path / "vae.safetensors"
    cut.write_bytes(cut.read_bytes()[:-8])
    with pytest.raises(BackendUnavailable, match="can't be read as weights"):
        weights.load(tmp_path / "mucodec.safetensors", cut, lambda: cut)
    with pytest.raises(BackendUnavailable, match="is missing"):
        weights.load(tmp_path / "none.safetensors", cut, lambda: cut)


def test_nothing_pulled_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(BackendUnavailable, match="backline assets pull mucodec --accept-licence"):
        build(CodecConfig(backend="mucodec"))
