"""`backline build` and `serve` as a user types them."""

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from flows.cli.main import commands
from flows.serving import ServerDownError
from pipeline.records.catalog import Catalog

pytestmark = pytest.mark.timeout(2400)


def words(library: Path, root: Path, *more: str) -> list[str]:
    return ["build", "--library", str(library), "--root", str(root), "--set", "rehearsal={}", *more]


def test_build_takes_stages_limit_and_engine(prefect: None, tiny: Path, tmp_path: Path) -> None:
    options = ["--stages", "detection,quality", "--limit", "4", "--engine", "local", "--set", "build.workers=1"]
    told = CliRunner().invoke(commands, words(tiny, tmp_path, *options))
    assert told.exit_code == 0, told.output
    assert "pieces of work done" in told.output
    assert len(Catalog(tmp_path).read(0)) == 4
    again = CliRunner().invoke(commands, words(tiny, tmp_path, *options))
    assert "Nothing to do" in again.output
    unknown = CliRunner().invoke(commands, words(tiny, tmp_path, *options, "--only-batches", "7"))
    assert "only_batches names [7]" in str(unknown.exception)


@pytest.mark.parametrize(
    ("option", "value", "wrong"),
    [("--engine", "slurm", "engine"), ("--stages", "mixing", "stages"), ("--recipe", "soup", "soup")],
)
def test_build_names_what_it_does_not_know(
    prefect: None, tiny: Path, tmp_path: Path, option: str, value: str, wrong: str
) -> None:
    told = CliRunner().invoke(commands, words(tiny, tmp_path, option, value))
    assert told.exit_code == 1
    assert isinstance(told.exception, ValidationError | ValueError)
    assert wrong in str(told.exception)


@pytest.mark.parametrize("option", [["--only-batches", "3;7"], ["--limit", "-1"]])
def test_build_refuses_what_is_no_number(tiny: Path, tmp_path: Path, option: list[str]) -> None:
    told = CliRunner().invoke(commands, words(tiny, tmp_path, *option))
    assert told.exit_code == 2  # usage


def test_serve_names_a_port_that_is_taken_or_that_is_none() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = CliRunner().invoke(commands, ["serve", "--port", str(taken.getsockname()[1])])
    assert isinstance(told.exception, ServerDownError)
    assert "try --port" in str(told.exception)
    assert CliRunner().invoke(commands, ["serve", "--port", "70000"]).exit_code == 2
    assert CliRunner().invoke(commands, ["serve", "--limit", "0"]).exit_code == 2
