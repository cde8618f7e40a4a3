"""The bench of the quality gate: its statistics by hand, and one run on two made-up songs."""

from pathlib import Path

import numpy as np
import pytest

from flows.bench import quality
from flows.bench.material import Material
from flows.bench.table import Row
from pipeline.audio import write
from pipeline.songs.faults import RECORDING_FAULTS, STATED
from pipeline.types import Audio

RATE = 48_000


def _song(folder: Path, seed: int) -> Path:
    """Bursts of noise that dies away, 5 s: broadband, with rests, no floor."""
    time = np.arange(5 * RATE) / RATE
    noise = np.random.default_rng(seed).normal(size=(2, time.size)) * np.exp(-15 * (time % 0.5))
    folder.mkdir()
    write(folder / "mix.flac", Audio((0.15 * noise).astype(np.float32), RATE))
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    root = tmp_path_factory.mktemp("songs")
    songs = tuple(_song(root / f"song-{seed}", seed) for seed in (1, 2))
    told: list[tuple[int, int]] = []
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(quality, "LADDER_SONGS", 1)
    found = quality.measure(Material(songs=songs, backings=(songs[0] / "mix.flac",)), lambda *done: told.append(done))
    monkeypatch.undo()
    assert told[-1][0] == told[-1][1] == len(told)
    return {row.measure: row for row in found}


def test_every_bar_of_the_gate_has_its_row(rows: dict[str, Row]) -> None:
    barred = {name: row.must for name, row in rows.items() if row.must is not None}
    faults = {f"{name} {strength:g} below the gate": 0.90 for name, strength in STATED.items()}
    assert barred == {"clean rendered songs at or above the gate": 0.95, **faults}


def test_clean_songs_pass_and_the_naive_rule_is_beside_each_figure(rows: dict[str, Row]) -> None:
    assert rows["clean rendered songs at or above the gate"].value == 1
    assert all(row.baseline_name == quality.NAIVE and row.seconds_per_minute > 0 for row in rows.values())
    assert {row.n for name, row in rows.items() if name.endswith("the gate") and "real" not in name} == {2}
    assert {row.n for name, row in rows.items() if "real" in name} == {1}


@pytest.mark.parametrize("name", RECORDING_FAULTS)
def test_the_score_falls_with_the_strength(rows: dict[str, Row], name: str) -> None:
    assert rows[f"{name}: rank correlation of score and strength"].value < -0.7
    assert rows[f"{name}: steps on which the score doesn't rise"].value == 1


def test_rank_correlation() -> None:
    assert quality.rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert quality.rank_correlation([4, 3, 2, 1], [1, 2, 3, 4]) == pytest.approx(-1)
    assert quality.rank_correlation([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9487, abs=1e-4)  # ties
    assert quality.rank_correlation([2, 2, 2], [1, 2, 3]) == 0


def test_a_material_without_clips_has_no_rows() -> None:
    assert quality.measure(Material(), lambda done, total: None) == []
