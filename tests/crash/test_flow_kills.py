"""Processes that run the flow are killed, several on one root, until one may end; the dataset is the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import drive_flow
from plans import FlowPlan


@pytest.fixture
def api(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process whose flows run on a server of our own."""
    from prefect_server import Server, free_port

    server = Server(tmp_path / "prefect", free_port())
    server.start()
    yield dict(server.env)
    server.stop()


@pytest.mark.crash
@pytest.mark.timeout(1200)
def test_flow_processes_killed_at_every_part_of_the_build(folder: Path, api: dict[str, str]) -> None:
    found = drive_flow(FlowPlan(str(folder), seed=5), api)
    assert len(found) == FlowPlan("").kills >= 12
    assert [(kill.step, kill.differ) for kill in found if kill.differ] == []
    assert max(kill.redone for kill in found) <= 4  # songs: one part of a batch
