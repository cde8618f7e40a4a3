"""Workers of the pool and the engine's process are killed; the songs that were under way are worked on again, once."""

from pathlib import Path

import pytest
from kills import drive_pool
from plans import PoolPlan


def check(plan: PoolPlan) -> None:
    found = drive_pool(plan)
    assert len(found) == plan.kills
    assert [(kill.what, kill.step, kill.differ) for kill in found if kill.differ] == []
    for kill in found:
        least, most = (0, 1) if kill.what.startswith("worker") else (0, 4)  # songs: one a worker, one part a batch
        assert least <= kill.redone <= most, kill


def test_a_few_kills(folder: Path) -> None:
    check(PoolPlan(str(folder), seed=1, workers_at_places=2, engines_at_times=1))


@pytest.mark.crash
@pytest.mark.timeout(1200)
def test_kills_spread_over_every_stage_and_the_shard_write(folder: Path) -> None:
    check(PoolPlan(str(folder), 2, workers_at_places=20, workers_at_times=6, engines_at_steps=6, engines_at_times=6))
