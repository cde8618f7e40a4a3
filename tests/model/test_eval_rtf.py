"""Real-time factors."""

import pytest

from model.evaluation.rtf import breakdown, factors


def test_seconds_of_work_per_second_of_output() -> None:
    assert factors({"denoise": 0.1, "total": 0.2}, 2.0) == {"denoise": 0.05, "total": 0.1}


def test_breakdown_is_the_median_of_each_phase() -> None:
    songs = [{"encode": 1.0, "total": 2.0}, {"encode": 3.0, "total": 9.0}, {"encode": 2.0, "total": 4.0}]
    assert breakdown(songs) == {"encode": 2.0, "total": 4.0}
    assert breakdown([{"decode": 2.0}, {}]) == {"decode": 1.0}


def test_no_audio_no_factor() -> None:
    with pytest.raises(ValueError, match="needs audio"):
        factors({"total": 1.0}, 0.0)
