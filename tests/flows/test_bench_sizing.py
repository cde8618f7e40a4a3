"""The sizing page: what is written down is what the inputs give, and the arithmetic is linear in hours."""

from pathlib import Path

import pytest

import flows
from flows.bench.sizing import CPU_STAGES, GPU_STAGES, LARGE, Library, days, lines, number, page

PAGE = Path(flows.__file__).parent.parent / "infra" / "sizing.md"


def test_the_page_is_what_the_inputs_give() -> None:
    assert PAGE.read_text(encoding="utf-8").endswith(page())


def test_an_hour_of_audio_takes_its_minutes_of_core_seconds() -> None:
    per_minute = sum(stage.seconds_per_minute for stage in CPU_STAGES)
    total = next(line for line in lines(Library(15, 1.0)) if "embedded stages together" in line.name)
    assert total.value == pytest.approx(60 * per_minute / 3600)
    assert total.dollars == pytest.approx(total.value * 0.04)


def test_twice_the_machines_take_half_the_days() -> None:
    cpu, gpu = days(LARGE, 100, 8)
    assert days(LARGE, 200, 16) == pytest.approx((cpu / 2, gpu / 2))
    assert gpu * 24 * 8 == pytest.approx(sum(LARGE.hours / stage.times_real_time for stage in GPU_STAGES))


def test_every_line_says_where_it_is_from() -> None:
    assert all(line.source for line in lines(LARGE))
    assert [number(x) for x in (0.04214, 1234.5, 99.96)] == ["0.0421", "1,230", "100"]
