"""What the crash tests share: a fast folder, and the table of kills at the end of the run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kills import TOLD, fast_folder, table


@pytest.fixture
def folder() -> Iterator[Path]:
    """A fast folder."""
    with fast_folder() as base:
        yield base


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TOLD:
        terminalreporter.write_sep("=", "kills survived")
        for line in table():
            terminalreporter.write_line(line)
