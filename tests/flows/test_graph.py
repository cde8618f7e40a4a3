"""Stage keys: a changed setting reaches what depends on it and nothing else."""

import ast
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from stage_rows import QUIET, loud_song, song_rows

import pipeline
from flows.recipe import load_recipe
from flows.stages.context import Context
from flows.stages.graph import ADMISSION, NODES, in_force, lineage, stage_keys
from flows.work import StageName

LATER = {"selection", "augmentation", "tokenization", "tokenization-copies"}


def changed(*overrides: str) -> set[str]:
    before, after = stage_keys(load_recipe("demo")), stage_keys(load_recipe("demo", overrides))
    return {stage for stage in before if before[stage] != after[stage]}


@pytest.mark.parametrize(
    ("override", "reached"),
    [
        ("selection.gate.threshold=4", {"selection"}),
        ("selection.gate.scope=all", {"selection"}),
        ("selection.duplicates=keep", {"selection"}),
        ("separation.backend=demucs", {"separation", "artifacts"} | LATER),
        ("annotation.threshold=0.2", {"annotation", "augmentation", "tokenization", "tokenization-copies"}),
        ("tokenization.variants=3", {"tokenization", "tokenization-copies"}),
        ("augmentation.copies.share=0.5", {"augmentation", "tokenization-copies"}),
        ("build.workers=7", set()),
        ("training.seed=9", set()),
        ("seed=9", {"augmentation", "tokenization", "tokenization-copies"}),
        ("augmentation.balance.probability=0.1", {"tokenization", "tokenization-copies"}),
    ],
)
def test_a_setting_reaches_what_reads_it(override: str, reached: set[str]) -> None:
    assert changed(override) == reached


def test_only_what_changes_mucodecs_codes_tokenizes_again() -> None:
    """The decoder's settings belong to listening; of the embedded codec nothing of MuCodec's counts at all."""
    decoding = ("steps=5", "guidance=1.0", "seed=3", "precision=float16")
    mucodec = "codec.backend=mucodec"

    def tokenization(*overrides: str) -> str:
        return stage_keys(load_recipe("demo", overrides))["tokenization"]

    plain = tokenization(mucodec)
    assert {tokenization(mucodec, f"codec.mucodec.{setting}") for setting in decoding} == {plain}
    others = [tokenization(mucodec, f"codec.mucodec.{setting}") for setting in ("windows=zero_pad", "phases=2")]
    assert len({plain, *others}) == 3
    assert changed(*(f"codec.mucodec.{setting}" for setting in (*decoding, "windows=zero_pad", "phases=2"))) == set()


def test_stages_are_in_an_order_in_which_each_finds_what_it_reads() -> None:
    seen: set[str] = set()
    for node in NODES.values():
        assert set(node.reads) <= seen
        seen.add(node.name)


VERSIONS = {  # stage -> the module that says its version
    "fingerprint": "fingerprint",
    **{name: f"{name}.stage" for name in ("detection", "quality", "separation", "structure", "annotation")},
    "artifacts": "separation.artifacts",
    "selection": "selection",
    "augmentation": "augmentation",
    "tokenization": "tokenization",
    "tokenization-copies": "tokenization",
}


def test_a_stages_version_stands_in_one_place() -> None:
    assert {node.name: node.version for node in NODES.values()} == {
        stage: import_module(f"pipeline.{module}").VERSION for stage, module in VERSIONS.items()
    }
    folder = Path(pipeline.__path__[0])
    sources = [path for name in ("detection", "quality", "separation", "structure", "annotation")
               for path in (folder / name).glob("*.py")]  # fmt: skip
    names = {
        (path.name, node.id)
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.lower() == "version"
    }
    assert {name for _, name in names} == {"VERSION"}
    assert {file for file, _ in names} == {"stage.py", "artifacts.py"}


def test_rows_of_a_gate_that_was_lowered_and_put_back_are_not_in_force(tmp_path: Path) -> None:
    settings = ["selection.gate.scope=all", "selection.gate.threshold="]

    def stages(threshold: float) -> list[str]:
        recipe = load_recipe("demo", [settings[0], f"{settings[1]}{threshold}"])
        return list(in_force(Context(tmp_path, recipe, stage_keys(recipe)), loud_song(), song_rows(QUIET)))

    everything = [name for name in NODES if name not in ("augmentation", "tokenization-copies")]
    assert stages(1.0) == everything
    assert stages(4.5) == ["fingerprint", "detection", "quality", "selection"]


def test_rows_after_a_song_that_is_none_any_more_are_not_in_force(tmp_path: Path) -> None:
    recipe = load_recipe("demo")
    context = Context(tmp_path, recipe, stage_keys(recipe))
    assert list(in_force(context, loud_song(), song_rows(QUIET, detection="rejected"))) == ["fingerprint", "detection"]
    assert list(in_force(context, loud_song(), song_rows(QUIET, separation="quarantined"))) == [
        "fingerprint", "detection", "quality", "separation", "structure", "annotation",
    ]  # fmt: skip


def test_a_stage_descends_from_what_it_reads() -> None:
    assert lineage("annotation") == {"annotation"}
    assert lineage("tokenization") == {"tokenization", "separation", "annotation"}
    original, copy = lineage("tokenization", "selection"), lineage("tokenization-copies", "selection")
    assert original == set(NODES) - {"augmentation", "tokenization-copies"}
    assert copy == set(NODES) - {"tokenization"}


def test_run_form_and_admission_know_every_stage() -> None:
    assert get_args(StageName) == (*NODES, "shards")
    assert set(ADMISSION) == set(NODES)
