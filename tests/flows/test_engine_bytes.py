"""The same bytes come out of every engine, however many workers it has."""

from pathlib import Path

import pytest
from tiny_build import Job, build, outcome, write_library

from flows.engine.engine import Engine
from flows.engine.local import LocalEngine

SONGS = 12


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    write_library(folder, SONGS)
    return folder


@pytest.fixture(scope="module")
def alone(library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What one worker makes of it."""
    with LocalEngine(workers=1) as engine:
        return built(engine, library, tmp_path_factory.mktemp("alone"))


def built(engine: Engine, library: Path, root: Path) -> dict[str, object]:
    build(Job(str(root), str(library), batch_size=SONGS // 2), engine)
    return outcome(root)


def test_one_worker_builds_all_of_it(alone: dict[str, object]) -> None:
    files, samples = alone["files"], alone["samples"]
    assert isinstance(files, dict)
    assert isinstance(samples, dict)
    assert any(name.endswith("manifest.json") for name in files)
    assert alone["wrong"] == []
    assert set(samples.values()) == {1}
    assert len(samples) >= SONGS


def test_two_workers_build_the_same(alone: dict[str, object], library: Path, tmp_path: Path) -> None:
    with LocalEngine(workers=2) as engine:
        assert built(engine, library, tmp_path) == alone
