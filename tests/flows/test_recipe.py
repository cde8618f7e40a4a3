"""Recipes: shipped ones load, overrides and bases merge, mistakes are named."""

import pytest

from flows.recipe import ablations, load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipe_loads_under_its_own_name(name: str) -> None:
    assert load_recipe(name).name == name


@pytest.mark.parametrize("base", recipe_names())
@pytest.mark.parametrize("ablation", ablations())
def test_every_ablation_is_a_few_settings_over_every_recipe(base: str, ablation: str) -> None:
    plain, changed = load_recipe(base), load_recipe(f"{base}-{ablation}")
    assert changed.name == f"{base}-{ablation}"
    assert changed != plain
    other = {"model", "training", "name"} | ({"tokenization"} if ablation == "continuous" else set())
    assert changed.model_dump(exclude=other) == plain.model_dump(exclude=other), "it learns from the same dataset"


def test_ablations_ablate_what_their_names_say() -> None:
    assert load_recipe("paper-no-rtd").training.objective.rtd.weight == 0
    assert load_recipe("paper-no-stage2").training.stages == load_recipe("paper").training.stages[:1]
    both = load_recipe("demo-no-rtd-no-stage2").training
    assert (both.objective.rtd.weight, [stage.name for stage in both.stages]) == (0, ["stage1"])
    assert load_recipe("paper-single-stream").model.layout == "prefix"
    assert load_recipe("upstream-autoregressive").model.kind == "autoregressive"
    continuous = load_recipe("demo-continuous")
    assert (continuous.model.kind, continuous.tokenization.latents) == ("flow", True)


def test_paper_recipe_holds_the_papers_figures() -> None:
    paper = load_recipe("paper")
    first, second = paper.training.stages
    assert (first.crop_tokens, second.crop_tokens) == (1024, 4096)
    assert (first.steps, second.steps) == (150_000, 40_000)
    assert (paper.model.layers, paper.model.width, paper.model.heads, paper.model.kv_heads) == (16, 2048, 32, 8)
    assert (paper.sampler.steps, paper.sampler.top_k, paper.sampler.top_p) == (60, 100, 0.9)
    assert paper.sampler.mask_temperature == 10.5
    assert (paper.selection.gate.threshold, paper.selection.gate.rule) == (3.5, "mean")


def test_paper_and_upstream_name_the_systems_of_the_paper() -> None:
    for name in ("paper", "upstream"):
        r = load_recipe(name)
        sections = (r.quality, r.separation, r.structure, r.annotation, r.codec, r.conditioning)
        assert [s.backend for s in sections] == ["songeval", "demucs", "songformer", "qwen2_audio", "mucodec", "clamp3"]
        assert {s.device for s in sections} == {"cuda"}
        assert (r.annotation.lyrics.backend, r.model.prefix_width) == ("qwen3_asr", 768)
        assert r.training.crop_mode == "encoded_windows"
    assert load_recipe("upstream").conditioning.clamp3_recipe == "released_code"


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
        ("nosuch", [], "shipped: demo, paper, upstream, each also with -no-rtd"),
        ("ablations", [], "no recipe 'ablations'"),
        ("no-rtd", [], "no recipe 'no-rtd'"),
        ("demo-no-rdt", [], "no recipe 'demo-no-rdt'"),
        ("demo", ["training.until=stage3"], "names no stage: got 'stage3', there are stage1, stage2"),
        ("demo", ["model.kind=autoregressive"], r"set training.objective.mask_schedule to \[1.0\]"),
        ("demo-autoregressive", ["training.objective.rtd.weight=0.2"], "set training.objective.rtd.weight to 0"),
        ("demo-continuous", ["training.objective.label_smoothing=0.1"], "label_smoothing to 0, got 0.1"),
        ("demo-autoregressive", ["sampler.long=windowed"], "set sampler.long to whole"),
        ("demo", ["model.pack=true", "training.compile=true"], "set one of them to false"),
        ("missing.yaml", [], "does not exist"),
        ("demo", ["selection.gate.treshold=4"], "treshold"),
        ("demo", ["seed"], "section.key=value"),
        ("demo", ["selection.gate.rule=median"], "median"),
    ],
)
def test_mistakes_are_named(name: str, overrides: list[str], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_recipe(name, overrides)
