"""SDR in closed forms, mixtures at 0 dB, and the bench with separators whose answers are known."""

import numpy as np
import pytest
import soundfile

from flows.bench import separation
from flows.bench.material import Material
from flows.bench.separation import as_mixture, clip_sdr, loudest, middle_and_side, real_clips, sdr
from pipeline.separation.stage import SAMPLE_RATE, SeparationConfig, Stems
from pipeline.types import Audio

RNG = np.random.default_rng(0)


def noise(seconds: float) -> np.ndarray:
    return (0.1 * RNG.normal(size=(2, int(seconds * SAMPLE_RATE)))).astype(np.float32)


class Leaky:
    """Knows the truth about one file's kind: takes a fixed share of the mixture for the vocal."""

    name, backend, weights_sha256, licence = "separation", "leaky", "0" * 64, "ours"
    config = SeparationConfig()

    def __call__(self, mixture: Audio) -> Stems:
        vocal = mixture.samples * np.float32(0.5)
        return Stems(Audio(vocal, SAMPLE_RATE), Audio(mixture.samples - vocal, SAMPLE_RATE))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("material")
    song = folder / "song-1"
    song.mkdir()
    for name in ("vocal", "accompaniment"):
        soundfile.write(song / f"{name}.flac", noise(6).T, SAMPLE_RATE)
    for name, seconds in (("singer", 5.2), ("band", 8.0), ("other", 9.0)):
        soundfile.write(folder / f"{name}.wav", noise(seconds).T, SAMPLE_RATE)
    return Material(
        songs=(song,), singers=(folder / "singer.wav",), backings=(folder / "band.wav", folder / "other.wav")
    )


@pytest.mark.parametrize("decibel", [-10.0, 0.0, 6.0, 20.0])
def test_sdr_is_the_ratio_of_signal_to_error(decibel: float) -> None:
    signal = noise(1)
    error = signal[:, ::-1] * np.float32(10 ** (-decibel / 20))
    assert sdr(signal, signal + error) == pytest.approx(decibel, abs=1e-3)
    assert sdr(signal, signal) == pytest.approx(100)
    assert sdr(signal, 0 * signal) == pytest.approx(0)


def test_a_silent_stem_has_no_sdr() -> None:
    with pytest.raises(ValueError, match="silent"):
        sdr(np.zeros((2, 10), np.float32), np.ones((2, 10), np.float32))


def test_singers_and_bands_are_equally_loud(material: Material) -> None:
    clips = list(real_clips(material.singers, material.backings))
    assert len(clips) == 2
    for clip in clips:
        assert np.sqrt(np.mean(clip.vocal**2)) == pytest.approx(np.sqrt(np.mean(clip.accompaniment**2)), rel=1e-4)
        assert clip_sdr(clip, as_mixture(clip.mixture)) == pytest.approx(0, abs=0.1)


def test_the_loudest_stretch_is_taken() -> None:
    quiet = 0.1 * noise(10)
    quiet[:, 4 * SAMPLE_RATE : 6 * SAMPLE_RATE] *= 20
    assert np.array_equal(loudest(quiet, 2 * SAMPLE_RATE), quiet[:, 4 * SAMPLE_RATE : 6 * SAMPLE_RATE])
    assert loudest(quiet, 20 * SAMPLE_RATE).shape == quiet.shape


def test_middle_and_side_take_a_centred_voice_from_a_wide_band() -> None:
    voice, side = noise(1)[:1], noise(1)[:1]
    found = middle_and_side(Audio(np.concatenate([voice + side, voice - side]), SAMPLE_RATE))
    np.testing.assert_allclose(found.vocal.samples, np.repeat(voice, 2, 0), atol=1e-6)
    np.testing.assert_allclose(found.accompaniment.samples, np.concatenate([side, -side]), atol=1e-6)


def test_the_rows_say_what_a_known_separator_does(material: Material) -> None:
    seen: list[tuple[int, int]] = []
    rows = separation.measure(material, lambda done, total: seen.append((done, total)), Leaky())
    assert seen == [(1, 3), (2, 3), (3, 3)]
    real, rendered, speed = rows
    assert (real.n, rendered.n, speed.n) == (2, 1, 3)
    expected = -10 * np.log10((0.25 + 0.25) / 1)  # half of itself missing, half of the other too much
    assert real.value == pytest.approx(expected, abs=0.1)
    assert rendered.value == pytest.approx(expected, abs=0.1)
    assert real.passes is False
    assert real.low <= real.value <= real.high
    assert real.baseline_name == "middle and side"  # of independent channels, as good as the half
    assert speed.value > 0


def test_no_material_no_rows() -> None:
    assert separation.measure(Material(), lambda done, total: None, Leaky()) == []
