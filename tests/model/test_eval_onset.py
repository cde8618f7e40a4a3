"""Onset F1 against mir_eval, closed cases, and the level that chance alone reaches."""

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.onset import chance_f1, matches, onsets, score
from model.evaluation.settings import OnsetConfig
from pipeline.types import Audio

CONFIG = OnsetConfig()
WINDOW = CONFIG.window_seconds
GRID = np.arange(10) * 0.5 + 0.5


def f1(reference: list[float] | np.ndarray, estimate: list[float] | np.ndarray) -> float:
    found = score(np.asarray(reference, dtype=float), np.asarray(estimate, dtype=float), WINDOW)
    assert found is not None
    return found.f1


@pytest.mark.parametrize(
    ("shift", "expected"), [(0.0, 1.0), (0.049, 1.0), (0.05, 1.0), (0.051, 0.0), (-0.05, 1.0), (-0.051, 0.0)]
)
def test_window_is_closed_at_50_ms(shift: float, expected: float) -> None:
    assert f1(GRID, GRID + shift) == expected


def test_extra_estimate_costs_precision_only() -> None:
    found = score(np.arange(4.0), np.array([0.0, 1.0, 1.5, 2.0, 3.0]), WINDOW)
    assert found is not None
    assert (round(found.f1, 4), found.precision, found.recall) == (0.8889, 0.8, 1.0)


def test_one_reference_serves_one_estimate() -> None:
    doubled = np.sort(np.concatenate([GRID, GRID + 0.01]))
    found = score(GRID, doubled, WINDOW)
    assert found is not None
    assert (round(found.f1, 4), found.precision, found.recall) == (0.6667, 0.5, 1.0)


def test_nearest_first_would_lose_a_pair() -> None:
    assert f1([0.0, 0.04], [0.04, 0.08]) == 1.0


def test_silence_against_onsets_is_zero_and_against_silence_is_nothing() -> None:
    none = np.zeros(0)
    assert f1(GRID, none) == f1(none, GRID) == 0.0
    assert score(none, none, WINDOW) is None


times = st.lists(st.integers(0, 4000), min_size=1, max_size=40, unique=True)


@settings(max_examples=200, deadline=None)
@given(times, times)
def test_matching_is_as_large_as_mir_evals(left: list[int], right: list[int]) -> None:
    # A grid of 1 ms, off by 0.3 ms, keeps clear of the edge, where mir_eval depends on rounding.
    reference, estimate = np.sort(left) / 1000.0, np.sort(right) / 1000.0 + 0.0003
    expected, precision, recall = mir_eval.onset.f_measure(reference, estimate, window=WINDOW)
    found = score(reference, estimate, WINDOW)
    assert found is not None
    assert (found.f1, found.precision, found.recall) == pytest.approx((expected, precision, recall))


@pytest.mark.parametrize(("rate", "expected"), [(2, 0.17), (4, 0.29), (6, 0.37), (8, 0.45), (10, 0.49)])
def test_chance_level_of_unrelated_onsets(rate: int, expected: float) -> None:
    assert chance_f1(60 * rate, 60 * rate, 60.0, CONFIG, seed=0) == pytest.approx(expected, abs=0.02)


def test_chance_is_seeded_and_nothing_without_onsets() -> None:
    assert chance_f1(50, 80, 30.0, CONFIG, seed=1) == chance_f1(50, 80, 30.0, CONFIG, seed=1)
    assert chance_f1(50, 80, 30.0, CONFIG, seed=1) != chance_f1(50, 80, 30.0, CONFIG, seed=2)
    assert chance_f1(0, 80, 30.0, CONFIG, seed=1) == 0.0


@pytest.mark.parametrize("sample_rate", [22_050, 48_000])
def test_clicks_are_found_where_they_are(sample_rate: int) -> None:
    truth = np.arange(1, 19) * 0.5
    signal = np.zeros((2, 10 * sample_rate), dtype=np.float32)
    length = sample_rate // 50
    click = np.exp(-np.arange(length) / (length / 8)) * np.sin(np.arange(length) * 2 * np.pi * 1000 / sample_rate)
    for time in truth:
        start = int(time * sample_rate)
        signal[:, start : start + length] += click.astype(np.float32) * 0.5
    found = onsets(Audio(signal, sample_rate), CONFIG)
    assert len(found) == 18
    assert matches(truth, found, WINDOW) == 18


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_near_silence_has_no_onsets(level: float) -> None:
    noise = np.random.default_rng(0).standard_normal((1, 220_500)).astype(np.float32) * level
    assert len(onsets(Audio(noise.astype(np.float32), 22_050), CONFIG)) == 0
