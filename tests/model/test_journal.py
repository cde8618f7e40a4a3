"""The lines of a run that resumes: those after its checkpoint go, the others stay whatever happens."""

import json
from pathlib import Path

import pytest

from model import journal


def lines(*steps: int) -> str:
    return "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in steps)


def test_lines_after_the_checkpoint_and_a_line_cut_short_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / journal.METRICS
    path.write_text(lines(1, 2, 3, 4) + '{"step": 5, "lo')
    journal.rewind(path, 3)
    assert path.read_text() == lines(1, 2, 3)
    assert "dropped a line that a crash cut short" in caplog.text
    assert list(tmp_path.iterdir()) == [path]


def test_a_kill_while_lines_are_dropped_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / journal.METRICS
    path.write_text(lines(1, 2, 3))

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        journal.rewind(path, 2)
    assert path.read_text() == lines(1, 2, 3)


def test_no_lines_are_none_to_drop(tmp_path: Path) -> None:
    journal.rewind(tmp_path / journal.METRICS, 3)
    assert journal.read(tmp_path) == []
