"""Stage keys: a changed setting reaches what depends on it and nothing else."""

from typing import get_args

import pytest

from flows.build_dataset import StageName
from flows.recipe import load_recipe
from flows.stages.graph import ADMISSION, NODES, stage_keys

LATER = {"selection", "augmentation", "tokenization", "tokenization-copies"}


def changed(*overrides: str) -> set[str]:
    before, after = stage_keys(load_recipe("demo")), stage_keys(load_recipe("demo", overrides))
    return {stage for stage in before if before[stage] != after[stage]}


@pytest.mark.parametrize(
    ("override", "reached"),
    [
        ("selection.gate.threshold=4", {"selection"}),
        ("selection.gate.scope=all", {"selection"}),
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


def test_stages_are_in_an_order_in_which_each_finds_what_it_reads() -> None:
    seen: set[str] = set()
    for node in NODES.values():
        assert set(node.reads) <= seen
        seen.add(node.name)


def test_run_form_and_admission_know_every_stage() -> None:
    assert get_args(StageName) == (*NODES, "shards")
    assert set(ADMISSION) == set(NODES)
