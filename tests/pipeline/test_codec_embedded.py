"""The embedded codec with the shipped weights: the contract, silence, level, and what a slice is worth."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pipeline.audio import apply_gain, loudness_gain_db, peak_dbfs, rms_dbfs
from pipeline.codec.codec import SAMPLE_RATE, CodecConfig, build, continuous, token_count
from pipeline.codec.embedded import SHIPPED, EmbeddedCodec
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio


@pytest.fixture(scope="module")
def codec() -> EmbeddedCodec:
    torch.set_num_threads(1)
    return build(CodecConfig())


def melody(seconds: float, seed: int = 0) -> Audio:
    """A harmonic tone that takes a new note every 0.4 s, a burst of noise with each, under the loudness rule."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    beat = (time / 0.4).astype(int)
    notes = 220 * 2 ** (rng.integers(0, 18, beat[-1] + 1) / 12)
    phase = 2 * np.pi * np.cumsum(notes[beat]) / SAMPLE_RATE
    tones = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.exp(-2 * (time % 0.4))
    noise = 0.3 * rng.standard_normal(time.size) * np.exp(-60 * (time % 0.4))
    audio = Audio(np.stack([tones + noise, tones - noise]).astype(np.float32), SAMPLE_RATE)
    return apply_gain(audio, loudness_gain_db(audio))


@pytest.mark.parametrize("samples", [0, 1, 391, 1919, 1920, 1921, 3840, 48_000, 100_001])
def test_codes_of_any_length_have_the_contract_s_count(codec: EmbeddedCodec, samples: int) -> None:
    rng = np.random.default_rng(samples)
    codes = codec.encode(Audio((0.1 * rng.standard_normal((2, samples))).astype(np.float32), SAMPLE_RATE))
    assert codes.shape == (1, token_count(samples))
    assert codes.dtype == np.uint16
    assert codes.max() < 16_384


@pytest.mark.parametrize("count", [1, 2, 7, 126])
def test_codes_play_as_two_equal_channels_of_1920_samples_each(codec: EmbeddedCodec, count: int) -> None:
    codes = np.random.default_rng(count).integers(0, 16_384, count).astype(np.uint16)
    audio = codec.decode(codes)
    assert (audio.samples.shape, audio.sample_rate) == ((2, count * 1920), 48_000)
    assert np.array_equal(audio.samples[0], audio.samples[1])
    assert np.isfinite(audio.samples).all()
    assert np.array_equal(audio.samples, codec.decode(codes).samples)


def test_silence_stays_silent(codec: EmbeddedCodec) -> None:
    codes = codec.encode(Audio(np.zeros((2, 5 * SAMPLE_RATE), np.float32), SAMPLE_RATE))[0]
    assert len(np.unique(codes)) == 1
    assert rms_dbfs(codec.decode(codes)) <= -60


def test_silence_between_sounds_stays_quiet(codec: EmbeddedCodec) -> None:
    audio = melody(3)
    audio.samples[:, SAMPLE_RATE : 2 * SAMPLE_RATE] = 0
    played = codec.decode(codec.encode(audio)[0])
    gap = Audio(played.samples[:, round(1.2 * SAMPLE_RATE) : round(1.8 * SAMPLE_RATE)], SAMPLE_RATE)
    assert rms_dbfs(gap) <= -50


def test_level_survives(codec: EmbeddedCodec) -> None:
    """Within 4 dB on tones that no training song has (real audio: see the card), and it follows the input."""
    levels = []
    for gain in (0.0, -12.0):
        audio = apply_gain(melody(4), gain)
        played = codec.decode(codec.encode(audio)[0])
        assert rms_dbfs(played) == pytest.approx(rms_dbfs(audio.mono()), abs=4.0)
        assert peak_dbfs(played) <= 3.0
        levels.append(rms_dbfs(played))
    assert levels[0] - levels[1] == pytest.approx(12, abs=2.5)


def test_the_notes_survive(codec: EmbeddedCodec) -> None:
    """The strongest pitch class of each note comes back: a codec without pitch does so for 1 note in 12."""
    audio = melody(16)
    played = codec.decode(codec.encode(audio)[0])
    hop = round(0.4 * SAMPLE_RATE)
    bins = np.fft.rfftfreq(hop, 1 / SAMPLE_RATE)
    low = (bins > 200) & (bins < 1300)
    pitch_class = np.round(12 * np.log2(bins[low] / 440)).astype(int) % 12

    def strongest(audio: Audio) -> NDArray[np.int64]:
        frames = audio.mono().samples[0][: 40 * hop].reshape(40, hop) * np.hanning(hop)
        power = np.abs(np.fft.rfft(frames))[:, low] ** 2
        return np.stack([power[:, pitch_class == k].sum(axis=1) for k in range(12)], axis=1).argmax(axis=1)

    assert np.mean(strongest(audio) == strongest(played)) >= 0.7


@pytest.mark.parametrize(("start", "count"), [(0, 50), (3, 3), (37, 60), (100, 51)])
def test_a_slice_is_the_encoding_of_the_crop_away_from_its_edges(codec: EmbeddedCodec, start: int, count: int) -> None:
    audio, margin = melody(6), codec.spec.context_frames
    whole = codec.encode(audio)[0]
    part = codec.encode(Audio(audio.samples[:, start * 1920 : (start + count) * 1920], SAMPLE_RATE))[0]
    assert np.array_equal(part[margin : count - margin], whole[start + margin : start + count - margin])


def test_codes_repeat_and_channels_are_averaged(codec: EmbeddedCodec) -> None:
    audio = melody(2)
    assert np.array_equal(codec.encode(audio), codec.encode(audio))
    assert np.array_equal(codec.encode(audio), codec.encode(audio.mono()))


def test_latents_are_what_is_quantised(codec: EmbeddedCodec) -> None:
    audio = melody(2)
    points, centres = codec.latents(audio), codec.codebook.centres.numpy()
    distance = np.square(points[:, None] - centres[None]).sum(axis=2)
    chosen = np.take_along_axis(distance, codec.encode(audio)[0].astype(np.int64)[:, None], axis=1)[:, 0]
    assert np.allclose(chosen, distance.min(axis=1), rtol=1e-4)


def test_latents_of_the_centroids_sound_as_their_codes(codec: EmbeddedCodec) -> None:
    codes = codec.encode(melody(2))[0]
    played = codec.decode_latents(codec.centroids()[codes])
    assert np.array_equal(played.samples, codec.decode(codes).samples)
    assert codec.decode_latents(codec.latents(melody(2))).length == codec.decode(codes).length
    assert continuous(codec) is codec


def test_wrong_arguments_are_named(codec: EmbeddedCodec) -> None:
    with pytest.raises(ValueError, match=r"latents must be \[T, 128\]"):
        codec.decode_latents(np.zeros((5, 3), np.float32))
    with pytest.raises(ValueError, match="44100"):
        codec.encode(Audio(np.zeros((1, 10), np.float32), 44_100))
    with pytest.raises(ValueError, match="codes must be"):
        codec.decode(np.zeros((1, 5), np.uint16))
    with pytest.raises(ValueError, match="codes must be"):
        codec.decode(np.zeros(0, np.uint16))
    with pytest.raises(ValueError, match="codes must be"):
        codec.decode(np.array([16_384], np.uint16))


def test_unusable_weights_stop_the_run(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, foreign)
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    for name, reason in [("none", "can't be read"), ("broken", "can't be read"), ("foreign", "format None")]:
        with pytest.raises(BackendUnavailable, match=reason):
            build(CodecConfig(weights=str(tmp_path / f"{name}.safetensors")))


def test_shipped_weights_are_small_and_say_their_licence(codec: EmbeddedCodec) -> None:
    assert SHIPPED.stat().st_size <= 10_000_000
    assert codec.spec.licence not in ("", "unknown")
    assert len(codec.spec.weights_sha256) == 64
    assert codec.spec.weights_sha256 in (SHIPPED.parent / "README.md").read_text()
