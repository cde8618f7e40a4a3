"""Writers to an S3 store are killed between the parts of an upload, before a commit, in the middle of a request."""

from pathlib import Path

import pytest
from kills import drive_store
from plans import StorePlan


@pytest.mark.crash
def test_writer_of_a_shard_in_parts_killed_at_every_request(folder: Path, s3: str) -> None:
    told, found = drive_store(StorePlan(str(folder), s3, seed=8, large=True))
    methods = [line.split()[0] for line in told]
    assert methods.count("upload_part") >= 2
    assert len(found) == len(methods)
    assert [(kill.step, kill.differ) for kill in found if kill.differ] == []


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_builds_killed_at_some_requests_and_two_at_once(folder: Path, s3: str) -> None:
    _, found = drive_store(StorePlan(str(folder), s3, seed=9, kills=5))
    *_, twice = found
    assert twice.step == "['', '']"
    assert [(kill.step, kill.differ) for kill in found if kill.differ] == []
