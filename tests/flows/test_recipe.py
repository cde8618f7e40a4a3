"""Recipes: shipped ones load, overrides and bases merge, mistakes are named."""

import pytest

from flows.recipe import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_loads_under_its_own_name(name: str) -> None:
    assert load_recipe(name).name == name


def test_paper_recipe_holds_the_papers_figures() -> None:
    paper = load_recipe("paper")
    first, second = paper.training.stages
    assert (first.crop_tokens, second.crop_tokens) == (1024, 4096)
    assert (first.steps, second.steps) == (150_000, 40_000)
    assert (paper.model.layers, paper.model.width, paper.model.heads, paper.model.kv_heads) == (16, 2048, 32, 8)
    assert (paper.sampler.steps, paper.sampler.top_k, paper.sampler.top_p) == (60, 100, 0.9)
    assert paper.sampler.mask_temperature == 10.5
    assert (paper.selection.gate.threshold, paper.selection.gate.rule) == (3.5, "mean")


def test_upstream_differs_from_paper_where_the_released_code_does() -> None:
    upstream, paper = load_recipe("upstream"), load_recipe("paper")
    assert upstream.training.objective.loss == "mean_masked"
    assert upstream.training.objective.rtd.mode == "head_only"
    assert (upstream.model.rope_theta, upstream.model.rms_eps) == (10_000.0, 1e-6)
    assert upstream.model.width == paper.model.width


def test_override_changes_one_value_and_keeps_its_neighbours() -> None:
    plain, changed = load_recipe("demo"), load_recipe("demo", ["selection.gate.threshold=4.1"])
    assert changed.selection.gate.threshold == 4.1
    assert changed.selection.gate.rule == plain.selection.gate.rule
    assert changed.training == plain.training


@pytest.mark.parametrize(
    ("name", "overrides", "match"),
    [
        ("nosuch", [], "shipped: demo, paper, upstream"),
        ("missing.yaml", [], "does not exist"),
        ("demo", ["selection.gate.treshold=4"], "treshold"),
        ("demo", ["seed"], "section.key=value"),
        ("demo", ["selection.gate.rule=median"], "median"),
    ],
)
def test_mistakes_are_named(name: str, overrides: list[str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_recipe(name, overrides)
