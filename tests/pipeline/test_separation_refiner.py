"""The refiner starts as Spleeter's mask, its maps lose nothing, and its training resumes to the same weights."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from pipeline.errors import BackendUnavailable
from pipeline.separation.refiner import MAPS, Refiner, fold, load_refiner, maps_of, ratio_mask, unfold
from pipeline.separation.remixes import LENGTH, Example, make_examples
from pipeline.separation.spleeter import BINS, PATCH, SAMPLE_RATE, SpleeterSeparator
from pipeline.separation.stage import SeparationConfig
from pipeline.separation.train_refiner import RefinerTrainingConfig, crop_loss, train_refiner


def spectra(frames: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.complex(*(torch.randn(2, frames, BINS, generator=generator) for _ in range(2)))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
def test_unfolding_undoes_folding(batch: int, channels: int, frames: int, bins: int) -> None:
    maps = torch.randn(batch, channels, 2 * frames, 4 * bins)
    folded = fold(maps)
    assert folded.shape == (batch, 8 * channels, frames, bins)
    assert torch.equal(unfold(folded), maps)


def test_an_untrained_refiner_is_the_ratio_mask() -> None:
    heard = spectra()
    vocal, rest = heard.abs() * 0.3, heard.abs() * 0.9
    maps = maps_of(heard, vocal, rest, 32)[None]
    assert maps.shape == (1, MAPS, 32, BINS)
    torch.testing.assert_close(ratio_mask(maps), torch.full((1, 2, 32, BINS), 0.1), atol=1e-4, rtol=0)
    with torch.inference_mode():
        torch.testing.assert_close(Refiner().eval()(maps), ratio_mask(maps), atol=1e-4, rtol=0)


def test_levels_and_padding_do_not_change_the_maps() -> None:
    heard = spectra()
    maps = maps_of(heard, heard.abs(), heard.abs(), 32)
    torch.testing.assert_close(maps_of(8 * heard, 8 * heard.abs(), 8 * heard.abs(), 32), maps)
    padded = torch.nn.functional.pad(heard, (0, 0, 0, 16))
    torch.testing.assert_close(maps_of(padded, padded.abs(), padded.abs(), 32)[:, :32], maps)
    assert float(maps_of(heard * 0, heard.abs() * 0, heard.abs() * 0, 32).abs().max()) == 0


def test_the_middle_and_the_side_are_seen() -> None:
    left = spectra()[0]
    alike = maps_of(torch.stack([left, left]), *torch.zeros(2, 2, 32, BINS), 32)
    against = maps_of(torch.stack([left, -left]), *torch.zeros(2, 2, 32, BINS), 32)
    assert float(alike[3].max()) == float(against[2].max()) == 0
    torch.testing.assert_close(alike[2], against[3])


@pytest.mark.parametrize("content", [None, b"", b"not tensors at all"])
def test_unreadable_weights_are_unavailable(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "refiner.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BackendUnavailable, match="install Backline again"):
        load_refiner(path)


def test_the_loss_is_the_sdr_of_the_mask() -> None:
    power, best = torch.ones(1, 2, 16, 8), torch.full((1, 2, 16, 8), 0.5)
    rest, vocal = torch.zeros(1, 16), torch.full((1, 16), 2 * 8 * 0.25)
    nothing = crop_loss(torch.zeros_like(best), power, best, rest, vocal)
    assert float(nothing) == pytest.approx(-10 * np.log10(1 + 0.01 / 0.25), abs=1e-4)
    close = crop_loss(best + 0.05, power, best, rest, vocal)
    assert float(nothing - close) == pytest.approx(20, abs=1e-3)
    assert float(crop_loss(best, power, best, rest + 1, vocal)) < 0


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of a rendered song, 13 s: a wandering tone over noise bursts."""
    folder = tmp_path_factory.mktemp("song")
    time = np.arange(LENGTH + 44_100) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (0.3 * np.sin(0.7 * time))) / SAMPLE_RATE
    voice = 0.05 * sum(np.sin(k * phase) / k for k in range(1, 12))
    noise = 0.1 * np.random.default_rng(0).normal(size=(time.size, 2)) * np.exp(-12 * (time % 0.5))[:, None]
    soundfile.write(folder / "vocal.flac", np.stack([voice, voice], 1), SAMPLE_RATE)
    soundfile.write(folder / "accompaniment.flac", noise, SAMPLE_RATE)
    soundfile.write(folder / "word.wav", voice[:30_000], SAMPLE_RATE)
    return folder


def silent(*_: object) -> None:
    """Nobody watches."""


def test_an_example_holds_the_whole_vocal(song: Path) -> None:
    separator = SpleeterSeparator(SeparationConfig(refine=False))
    music, speech = [song / "accompaniment.flac"], [song / "word.wav"]
    examples = list(make_examples([song], music, speech, 1, 3, separator, silent))
    assert len(examples) == 1
    (example,) = examples
    assert example.maps.shape == (MAPS, PATCH, BINS)
    assert example.power.shape == example.best.shape == (2, PATCH, BINS)
    reached = (example.power.float() * example.best.float().square()).sum() + example.rest.sum()
    assert float(reached) == pytest.approx(float(example.vocal.sum()), rel=0.02)


class _Stopped(RuntimeError):
    """Someone pulled the plug."""


def test_training_resumes_to_the_same_weights(song: Path, tmp_path: Path) -> None:
    config = RefinerTrainingConfig(examples=1, steps=4, batch_size=1, crop_frames=16, checkpoint_every=2)

    def run(name: str, stop_at: float) -> Path:
        def watch(phase: str, share: float) -> None:
            if phase == "training" and share >= stop_at:
                raise _Stopped

        train_refiner([song], [], [song / "word.wav"], tmp_path / name, config, watch)
        return tmp_path / name

    with pytest.raises(_Stopped):
        run("a.safetensors", 0.75)
    whole = tmp_path / "b.safetensors.parts"
    shutil.copytree(tmp_path / "a.safetensors.parts", whole)
    for state in whole.rglob("state.pt"):
        state.unlink()
    resumed, straight = load_file(run("a.safetensors", 2)), load_file(run("b.safetensors", 2))
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in resumed)
    assert not whole.exists()
    network, digest = load_refiner(tmp_path / "a.safetensors")
    assert len(digest) == 64
    assert not network.training
    assert (tmp_path / "a.safetensors").stat().st_size < 1_000_000


def test_songs_without_a_voice_are_refused(tmp_path: Path) -> None:
    for name in ("vocal.flac", "accompaniment.flac"):
        soundfile.write(tmp_path / name, np.full((44_100, 2), 0.1), SAMPLE_RATE)
    with pytest.raises(ValueError, match="give longer songs"):
        train_refiner([tmp_path], [], [], tmp_path / "x.safetensors", RefinerTrainingConfig(), silent)


def test_examples_are_drawn_from_the_seed(song: Path) -> None:
    separator = SpleeterSeparator(SeparationConfig(refine=False))

    def drawn(seed: int) -> Example:
        return next(make_examples([song], [], [], 1, seed, separator, silent))

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert torch.equal(first.maps, again.maps)
    assert not torch.equal(first.maps, other.maps)
