"""What the crash tests share: a fast folder, and the table of kills at the end of the run."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import TOLD, table


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: a kill loses no byte that was written, fsync waits for nothing."""
    memory = Path("/dev/shm")
    base = tempfile.mkdtemp(prefix="backline-crash-", dir=memory if memory.is_dir() else None)
    yield Path(base)
    shutil.rmtree(base, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TOLD:
        terminalreporter.write_sep("=", "kills survived")
        for line in table():
            terminalreporter.write_line(line)
