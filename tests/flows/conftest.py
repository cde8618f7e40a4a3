"""One Prefect server for all flow tests of a session, and one small library built once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect_server import Server, free_port
from rehearsals import SONGS, rehearsal
from small_library import SETTINGS, rows_of, write_manifest

from flows.bench.tiny import write_library
from flows.build_dataset import BuildParameters, BuildResult, build_dataset


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server with a database of its own."""
    server = Server(tmp_path_factory.mktemp("prefect"), free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def deployments(server: Server) -> dict[str, dict[str, Any]]:
    """``flow/deployment`` -> deployment, after the command that infra/README.md gives."""
    server.command("deploy")
    return server.deployments()


@pytest.fixture(scope="session")
def worker(server: Server, deployments: dict[str, dict[str, Any]]) -> Iterator[None]:
    """A worker of the pool `backline`."""
    with server.worker():
        yield


@pytest.fixture(scope="session")
def prefect(server: Server) -> Iterator[None]:
    """Flows of this process run on the server."""
    with server.here():
        yield


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short rendered songs (two train, one val, one test with true stems), a podcast, and files that can't be used."""
    from pipeline.songs.render import render_library

    folder = tmp_path_factory.mktemp("library")
    songs = render_library(folder / "song", count=4, seed=40, kind="song", workers=2, seconds=(20.0, 30.0))
    speech = render_library(folder / "speech", count=1, seed=40, kind="speech", seconds=(12.0, 16.0))
    rows = [line for path in (songs, speech) for line in rows_of(path)]
    (folder / "torn.wav").write_bytes(b"RIFF\x00\x00\x00\x00WAVE")
    (folder / "page.mp3").write_text("<html>not audio</html>")
    rows += [{"path": str(folder / name)} for name in ("torn.wav", "page.mp3", "gone.flac")]
    return write_manifest(folder / "library.csv", rows)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="session")
def parameters(library: Path, root: Path) -> BuildParameters:
    return BuildParameters(recipe="demo", library=str(library), root=str(root), overrides=SETTINGS)


@pytest.fixture(scope="session")
def built(prefect: None, parameters: BuildParameters) -> BuildResult:
    """The library, built once."""
    return build_dataset(parameters)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a tiny library."""
    return write_library(tmp_path_factory.mktemp("tiny"), SONGS)


@pytest.fixture(scope="session")
def undisturbed(prefect: None, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """sha256 of the manifest of the tiny library, rehearsed in one process that nobody disturbs."""
    built = build_dataset(rehearsal(tiny, tmp_path_factory.mktemp("undisturbed")))
    assert built.dataset is not None
    return built.dataset.manifest_sha256
