"""What all tests share."""

import os
from collections.abc import Iterator

import pytest
from s3_server import require_extra, serve_s3

from flows.environment import prepare

prepare(quiet=True)
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a bucket on a real S3 server, one for the session."""
    require_extra()
    with serve_s3() as url:
        yield url
