import math
import time

import pytest

from pipeline.phases import measured, phase


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_phases_share_the_time_out_and_an_inner_one_is_not_the_outer_ones():
    began = time.perf_counter()
    with measured() as spent:
        spin(0.01)
        with phase("decode"):
            spin(0.02)
            with phase("load"):
                spin(0.03)
        with phase("decode"):
            spin(0.02)
    whole = time.perf_counter() - began
    assert set(spent.seconds) == {"work", "decode", "load"}
    assert spent.seconds["work"] >= 0.01
    assert spent.seconds["decode"] >= 0.04
    assert spent.seconds["load"] >= 0.03
    assert 0.08 <= math.fsum(spent.seconds.values()) <= whole


def test_work_that_breaks_is_timed_all_the_same_and_the_next_begins_anew():
    with pytest.raises(OSError, match="disk"), measured() as broken, phase("write"):
        raise OSError("disk")
    with measured() as spent, phase("read"):
        pass
    assert set(broken.seconds) == {"work", "write"}
    assert set(spent.seconds) == {"work", "read"}


def test_outside_a_measured_piece_of_work_a_phase_is_nothing():
    with phase("decode"):
        spin(0.001)
    with measured() as spent:
        pass
    assert set(spent.seconds) == {"work"}
