"""Fréchet distance: closed forms, ill-conditioned cases, and the warning about too few frames."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from model.evaluation.frechet import Gaussian, between, distance, gaussian, leave_one_out

RNG = np.random.default_rng(0)


def normal(mean: list[float], covariance: np.ndarray, count: int = 1000) -> Gaussian:
    return Gaussian(np.asarray(mean, dtype=float), np.asarray(covariance, dtype=float), count)


def test_closed_forms() -> None:
    one = distance(normal([0], np.eye(1)), normal([1], np.diag([4.0])))
    assert one.value == pytest.approx(2.0, abs=1e-12)
    three = distance(normal([0, 0, 0], np.diag([1.0, 4, 9])), normal([1, 2, 3], np.diag([4.0, 9, 16])))
    assert three.value == pytest.approx(17.0, abs=1e-12)


def test_covariances_that_do_not_commute() -> None:
    found = distance(normal([0, 0], np.array([[2.0, 1], [1, 2]])), normal([1, -2], np.diag([3.0, 1])))
    assert found.value == pytest.approx(5.516685226452117, abs=1e-12)


def test_agrees_with_the_matrix_square_root() -> None:
    a, b = (gaussian(RNG.standard_normal((300, 12)) @ RNG.standard_normal((12, 12)) + k) for k in (0.0, 0.3))
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(
        a.covariance + b.covariance - 2 * np.real(sqrtm(a.covariance @ b.covariance))
    )
    assert distance(a, b).value == pytest.approx(expected, rel=1e-9)


def test_itself_symmetry_and_rotation() -> None:
    x, y = RNG.standard_normal((400, 8)), RNG.standard_normal((300, 8)) * 1.5 + 0.2
    rotation = np.linalg.qr(RNG.standard_normal((8, 8)))[0]
    plain = between([x], [y]).value
    assert between([x], [x]).value == pytest.approx(0.0, abs=1e-9)
    assert between([y], [x]).value == pytest.approx(plain, rel=1e-9)
    assert between([x @ rotation], [y @ rotation]).value == pytest.approx(plain, rel=1e-9)


def test_fewer_frames_than_dimensions_is_finite_and_symmetric() -> None:
    a, b = gaussian(RNG.standard_normal((20, 64))), gaussian(RNG.standard_normal((30, 64)) + 0.1)
    forth, back = distance(a, b).value, distance(b, a).value
    assert np.isfinite(forth)
    assert forth == pytest.approx(back, rel=1e-6)
    assert forth > 0


def test_few_frames_bias_upwards_and_are_flagged() -> None:
    few = between([RNG.standard_normal((60, 64))], [RNG.standard_normal((60, 64))])
    many = between([RNG.standard_normal((4000, 64))], [RNG.standard_normal((4000, 64))])
    assert not few.enough_frames
    assert many.enough_frames
    assert few.value > 10 * many.value
    assert (few.frames_reference, few.frames_estimate, few.dimension) == (60, 60, 64)


def test_pooling_ignores_the_order_of_songs() -> None:
    songs = [RNG.standard_normal((n, 5)) for n in (10, 20, 30)]
    other = RNG.standard_normal((40, 5))
    assert between(songs, [other]).value == pytest.approx(between(songs[::-1], [other]).value, rel=1e-12)
    assert gaussian(np.concatenate(songs)).covariance == pytest.approx(np.cov(np.concatenate(songs).T))


def test_leave_one_out_drops_the_song_on_both_sides() -> None:
    a = [RNG.standard_normal((9, 3)) for _ in range(3)]
    b = [RNG.standard_normal((9, 3)) for _ in range(3)]
    assert leave_one_out(a, b)[1] == between([a[0], a[2]], [b[0], b[2]]).value
    assert leave_one_out(a[:1], b[:1]) == []


def test_what_can_not_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="one embedder"):
        distance(normal([0], np.eye(1)), normal([0, 0], np.eye(2)))
    with pytest.raises(ValueError, match="more or longer songs"):
        gaussian(np.zeros((1, 4)))
