"""Bleed that is put in is bleed that is there, areas under the curve in closed forms."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from flows.bench import artifacts
from flows.bench.artifacts import area, bleeding
from flows.bench.material import Material
from flows.bench.separation import Clip
from pipeline.separation.stage import SAMPLE_RATE, SeparationConfig, Stems
from pipeline.types import Audio

RNG = np.random.default_rng(1)


def test_the_area_under_the_curve() -> None:
    assert area([2, 3], [0, 1]) == 1
    assert area([0, 1], [2, 3]) == 0
    assert area([1, 1], [1, 1]) == 0.5
    assert area([0, 2], [1, 1]) == 0.5


@pytest.mark.parametrize("into", ["vocal", "accompaniment"])
def test_bleed_moves_a_part_of_the_other_stem(into: str) -> None:
    vocal, band = (RNG.normal(size=(2, 48_000)).astype(np.float32) for _ in range(2))
    clip = Clip(vocal, band)
    stems = Stems(Audio(vocal, SAMPLE_RATE), Audio(band, SAMPLE_RATE))
    found = bleeding(clip, stems, into, 20.0)
    np.testing.assert_allclose(
        found.vocal.samples + found.accompaniment.samples, vocal + band, atol=1e-5
    )  # nothing is lost
    host, guest = (found.vocal.samples, band) if into == "vocal" else (found.accompaniment.samples, vocal)
    share = np.sum(host * guest) / np.sum(guest**2)
    assert share == pytest.approx(0.1, abs=0.02)


class Truth:
    """A separator that gives back half the mixture for each stem."""

    name, backend, weights_sha256, licence = "separation", "half", "0" * 64, "ours"
    config = SeparationConfig()

    def __call__(self, mixture: Audio) -> Stems:
        half = Audio(mixture.samples / 2, SAMPLE_RATE)
        return Stems(half, half)


def test_a_song_gives_every_row(tmp_path: Path) -> None:
    time = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (0.03 * np.sin(2 * np.pi * 5.5 * time))) / SAMPLE_RATE
    voice = 0.05 * sum(np.sin(k * phase) / k for k in range(1, 15)) * (time % 3 < 2)
    band = 0.1 * RNG.normal(size=time.size) * np.exp(-12 * (time % 0.5)) + 0.03 * np.sin(2 * np.pi * 130.8 * time)
    for name, samples in (("vocal", voice), ("accompaniment", band)):
        soundfile.write(tmp_path / f"{name}.flac", np.stack([samples, samples], 1), SAMPLE_RATE)
    rows = artifacts.measure(Material(songs=(tmp_path,)), lambda done, total: None, Truth())
    assert len(rows) == 6
    true = [row for row in rows if "true stems" in row.measure and row.must is not None]
    assert [row.value for row in true] == [1.0, 1.0]
    kept, refused = rows[-2:]
    assert (kept.n, refused.n) == (1, 2)
    assert refused.value == 1


def test_no_songs_no_rows() -> None:
    assert artifacts.measure(Material(), lambda done, total: None, Truth()) == []
