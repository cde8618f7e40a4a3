"""Rows and intervals of the bench: closed forms, coverage, one rejection per reason."""

from pathlib import Path

import numpy as np
import pytest

from flows.bench.material import Material
from flows.bench.meter import Meter
from flows.bench.table import Row, failed, interval, meets


def row(**changes: object) -> Row:
    fields = {
        "stage": "detection",
        "measure": "songs right",
        "value": 0.98,
        "low": 0.95,
        "high": 1.0,
        "n": 100,
        "baseline": 0.5,
        "baseline_name": "always song",
        "seconds_per_minute": 1.0,
    }
    return Row(**(fields | changes))  # type: ignore[arg-type]


def test_the_interval_of_a_mean_is_the_closed_form_of_the_normal_law() -> None:
    values = np.random.default_rng(3).normal(5.0, 2.0, size=400)
    reach = 1.96 * values.std() / 20
    low, high = interval(values, resamples=4000)
    assert low == pytest.approx(values.mean() - reach, abs=0.1 * reach)
    assert high == pytest.approx(values.mean() + reach, abs=0.1 * reach)


def test_nineteen_of_twenty_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for number in range(300):
        low, high = interval(rng.normal(0.0, 1.0, size=60), seed=number, resamples=300)
        hits += low <= 0.0 <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.1, 0.9, 0.4, 0.7]
    assert interval(values, seed=5) == interval(values, seed=5)
    assert interval(values, seed=5) != interval(values, seed=6)


def test_rows_of_columns_are_drawn_as_wholes() -> None:
    pairs = np.stack([np.arange(50.0), 2 * np.arange(50.0)], axis=1)
    assert interval(pairs, lambda drawn: float(drawn[:, 1].sum() / drawn[:, 0].sum())) == (2.0, 2.0)


def test_one_clip_says_nothing_about_the_spread() -> None:
    assert all(np.isnan(interval([0.7])))


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        interval([1.0, float("nan"), 2.0])


@pytest.mark.parametrize(
    ("value", "bar", "better", "good"),
    [
        (0.97, 0.97, "higher", True),
        (0.96, 0.97, "higher", False),
        (0.55, 0.56, "lower", True),
        (0.57, 0.56, "lower", False),
        (1.1, (0.75, 1.1), "higher", True),
        (1.2, (0.75, 1.1), "higher", False),
        (float("nan"), 0.5, "higher", False),
        (float("nan"), 0.5, "lower", False),
    ],
)
def test_a_bar_is_met_on_its_good_side(value: float, bar: object, better: object, good: bool) -> None:
    assert meets(value, bar, better) is good  # type: ignore[arg-type]


def test_a_row_without_a_bar_neither_passes_nor_fails() -> None:
    assert row().passes is None
    assert failed([row(), row(must=0.97), row(must=0.99)]) == [row(must=0.99)]
    assert row(aim=0.995).reaches_aim is False


def test_the_first_of_every_kind() -> None:
    paths = tuple(Path(str(number)) for number in range(5))
    few = Material(songs=paths, faulty={"speech": paths}, prompts=paths).first(2)
    assert (few.songs, few.faulty, few.prompts, few.backings) == (paths[:2], {"speech": paths[:2]}, paths[:2], ())
    with pytest.raises(ValueError, match="count must be >= 1, got 0"):
        Material().first(0)


def test_the_meter_counts_what_was_finished() -> None:
    meter = Meter()
    assert np.isnan(meter.seconds_per_minute)
    with meter.timing(30.0):
        sum(range(200_000))
    with pytest.raises(KeyError), meter.timing(1000.0):
        raise KeyError
    assert meter.audio_seconds == 30.0
    assert meter.seconds_per_minute == pytest.approx(2 * meter.cpu_seconds)
    assert meter.cpu_seconds > 0
