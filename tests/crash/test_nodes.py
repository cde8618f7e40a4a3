"""Machines of a Ray cluster die in the middle of a build, others come: the build ends, and nothing is lost or twice."""

import importlib.util
import os
from pathlib import Path

import pytest
from kills import drive_nodes
from plans import NodePlan


@pytest.mark.crash
@pytest.mark.timeout(1200)
def test_nodes_killed_at_any_time(folder: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        assert os.environ.get("CI") != "true", "ray is missing: install the extra `ray`"
        pytest.skip("no ray: install the extra `ray`")
    found = drive_nodes(NodePlan(str(folder), seed=6))
    assert len(found) == NodePlan("").kills >= 8
    assert [(kill.step, kill.differ) for kill in found if kill.differ] == []
    assert sum(kill.redone for kill in found) > 0  # a kill that takes no song with it shows nothing
    assert max(kill.redone for kill in found) <= 2  # songs: one a machine at work
