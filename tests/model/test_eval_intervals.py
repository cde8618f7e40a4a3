"""Intervals cover what they claim, and verdicts are careful."""

import numpy as np
import pytest

from model.evaluation.intervals import Interval, bootstrap, jackknife, judge, quartiles


def test_bootstrap_is_seeded_and_holds_the_mean() -> None:
    values = list(np.random.default_rng(0).normal(3.0, 1.0, 40))
    first = bootstrap(values, 2000, 0.95, seed=1)
    assert first is not None
    assert first == bootstrap(values, 2000, 0.95, seed=1)
    assert first != bootstrap(values, 2000, 0.95, seed=2)
    assert first.low < np.mean(values) < first.high


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(300):
        found = bootstrap(list(rng.normal(0, 1, 40)), 400, 0.95, seed=trial)
        hits += found is not None and found.low <= 0 <= found.high
    assert 0.90 <= hits / 300 <= 0.98


def test_jackknife_of_a_mean_is_the_textbook_interval() -> None:
    values = np.random.default_rng(0).normal(0, 2, 25)
    left_out = [float(np.delete(values, i).mean()) for i in range(25)]
    found = jackknife(float(values.mean()), left_out, 0.95)
    assert found is not None
    reach = 1.959964 * values.std(ddof=1) / 5
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach))


def test_one_song_has_no_interval() -> None:
    assert bootstrap([1.0], 100, 0.95, 0) is None
    assert jackknife(1.0, [0.9], 0.95) is None
    assert quartiles([1.0]) is None
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == Interval(2.0, 4.0)


def test_verdicts() -> None:
    clear, spanning = Interval(0.1, 0.3), Interval(-0.1, 0.3)
    assert judge(0.2, clear, "higher") == "beats"
    assert judge(0.2, clear, "lower") == "loses"
    assert judge(-0.2, Interval(-0.3, -0.1), "lower") == "beats"
    assert judge(0.2, spanning, "higher") == "unclear"
    assert judge(0.2, None, "higher") == "unclear"
    assert judge(1e-9, Interval(5e-10, 2e-9), "higher", least=0.001) == "unclear"
