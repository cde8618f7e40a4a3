"""Is a copy in tune: tones whose answer is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.codec.tune import in_tune

RATE = 24_000
SECONDS = 2
Wave = NDArray[np.float32]


def voice(hertz: NDArray[np.float64] | float) -> Wave:
    """A tone with ten harmonics, of a pitch or of one for each sample."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, SECONDS * RATE)) / RATE
    return np.asarray(0.1 * sum(np.sin(k * phase) / k for k in range(1, 11)), np.float32)


@pytest.mark.parametrize(("cents", "share"), [(0, 1.0), (30, 1.0), (-30, 1.0), (80, 0.0), (-80, 0.0), (1200, 0.0)])
def test_half_a_semitone_is_in_tune_and_more_is_not(cents: float, share: float) -> None:
    assert in_tune(voice(220.0), voice(220.0 * 2 ** (cents / 1200))) == pytest.approx(share, abs=0.02)


def test_what_is_not_sung_in_the_copy_is_not_in_tune() -> None:
    half = voice(220.0)
    half[len(half) // 2 :] = 1e-3 * np.random.default_rng(0).standard_normal(len(half) // 2)
    assert in_tune(voice(220.0), half) == pytest.approx(0.5, abs=0.03)
    assert in_tune(half, voice(220.0)) == pytest.approx(1.0, abs=0.03)  # what the copy adds is not asked


def test_a_copy_that_stays_on_one_note_misses_the_glide() -> None:
    glide = np.geomspace(220.0, 440.0, SECONDS * RATE)
    assert in_tune(voice(glide), voice(glide)) == pytest.approx(1.0, abs=0.02)
    assert in_tune(voice(glide), voice(220.0)) == pytest.approx(50 / 1200, abs=0.03)


def test_level_and_length_do_not_matter() -> None:
    assert in_tune(voice(330.0), 0.1 * voice(330.0)[: RATE + 137]) == pytest.approx(1.0, abs=0.05)  # the last frames


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_no_answer_where_nothing_is_sung(level: float) -> None:
    noise = (level * np.random.default_rng(1).standard_normal(SECONDS * RATE)).astype(np.float32)
    assert np.isnan(in_tune(noise, voice(220.0)))
