"""Killed at any step in the file system and run again, everything comes out as if nothing had happened."""

from pathlib import Path

import pytest
from kills import drive
from plans import SCENARIOS, StepPlan


def check(plan: StepPlan) -> None:
    whole, kills = drive(plan)
    assert whole["outcome"]["wrong"] == []
    assert len(kills) == min(plan.kills or whole["steps"], whole["steps"])
    assert [(kill.step, kill.differ) for kill in kills if kill.differ] == []
    assert all(kill.redone >= 0 for kill in kills if not plan.power_cut)


def test_a_few_kills_of_a_first_build(folder: Path) -> None:
    check(StepPlan(str(folder), "first build", kills=6, seed=1))


def test_a_few_power_cuts_while_stems_are_let_go(folder: Path) -> None:
    check(StepPlan(str(folder), "stems let go", kills=2, seed=2, power_cut=True))


def test_a_few_kills_while_a_song_is_forgotten(folder: Path) -> None:
    check(StepPlan(str(folder), "song forgotten", kills=2, seed=3))


@pytest.mark.crash
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_kill_at_every_step(folder: Path, scenario: str) -> None:
    check(StepPlan(str(folder), scenario))


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_power_cut_at_some_steps(folder: Path, scenario: str) -> None:
    """What was not fsynced is gone: nothing that is committed may rest on it."""
    check(StepPlan(str(folder), scenario, kills=30, seed=4, power_cut=True))
