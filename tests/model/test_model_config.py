"""Settings: the paper's numbers are the defaults, contradictions are refused, JSON gives them back."""

import pytest
from pydantic import ValidationError

from model.config import (
    STAGE1,
    ModelConfig,
    ObjectiveConfig,
    RtdConfig,
    SamplerConfig,
    StageConfig,
    TrainingConfig,
    TrainRun,
)


def test_the_defaults_are_the_papers_recipe() -> None:
    run = TrainRun()
    assert [(s.crop_tokens, s.steps) for s in run.training.stages] == [(1024, 150_000), (4096, 40_000)]
    stage = run.training.stages[0]
    assert (stage.learning_rate, stage.warmup_steps, stage.weight_decay, stage.eps) == (1e-5, 10_000, 0.01, 1e-8)
    assert (stage.batch_size, stage.accumulation, stage.condition_dropout) == (2, 4, 0.5)
    assert (run.training.clip, run.training.precision, run.training.objective.rtd.weight) == (1.0, "bf16", 0.2)
    sampler = run.sampler
    assert (sampler.steps, sampler.schedule, sampler.top_k, sampler.top_p) == (60, "cosine", 100, 0.9)
    assert (sampler.temperature, sampler.mask_temperature) == (1.0, 10.5)


@pytest.mark.parametrize("schedule", ["linear", "power:0.5", (0.75, 0.5, 0.0)])
def test_a_run_survives_json(schedule: str | tuple[float, ...]) -> None:
    run = TrainRun(
        model=ModelConfig.model_validate({"shape": "tiny"}), sampler=SamplerConfig(steps=3, schedule=schedule)
    )
    assert TrainRun.model_validate_json(run.model_dump_json()) == run


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModelConfig(heads=6, kv_heads=4), "multiple of kv_heads"),
        (lambda: ModelConfig(head_dim=33), "must be even"),
        (lambda: ModelConfig.model_validate({"shape": "7b"}), "name one of tiny, 1b, 3b"),
        (lambda: ObjectiveConfig(loss="elbo"), "set mask_schedule to linear"),
        (
            lambda: ObjectiveConfig(loss="elbo", mask_schedule="linear", corruption="exact"),
            "set corruption to bernoulli",
        ),
        (lambda: ObjectiveConfig(mask_schedule=(0.2, 0.6)), "non-increasing"),
        (lambda: RtdConfig(mode="same_pass"), "set rtd.replace to uniform"),
        (lambda: SamplerConfig(steps=2, schedule=(0.5,)), "1 ratios for 2 steps"),
        (lambda: SamplerConfig(steps=2, schedule=(0.5, 0.6)), "non-increasing"),
        (lambda: SamplerConfig(schedule="cosinus"), "String should match pattern"),
        (lambda: SamplerConfig(window_tokens=100, overlap_tokens=100), "must be below window_tokens"),
        (lambda: SamplerConfig(stepz=3), "Extra inputs"),
        (lambda: StageConfig(name="a", split="b", crop_tokens=0, steps=1), "greater than or equal to 1"),
        (lambda: TrainingConfig(stages=()), "at least 1 item"),
        (lambda: TrainingConfig(stages=(STAGE1, STAGE1)), "give each its own, got stage1, stage1"),
    ],
)
def test_contradictions_are_refused(make: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()  # type: ignore[operator]


def test_a_shape_stands_for_its_numbers_and_what_is_said_beside_it_wins() -> None:
    assert ModelConfig.model_validate({"shape": "1b"}) == ModelConfig()
    wide = ModelConfig.model_validate({"shape": "3b", "prefix_width": 384})
    assert (wide.layers, wide.width, wide.head_dim, wide.prefix_width) == (28, 3072, 128, 384)
    assert "shape" not in wide.model_dump()


@pytest.mark.parametrize("kind", ["autoregressive", "flow"])
@pytest.mark.parametrize(
    ("sampler", "message"),
    [({"long": "windowed"}, "plays songs whole"), ({"entropy_bound": 1.0}, "no masks to settle"),
     ({"guidance_interval": (0.0, 0.5)}, "guided throughout")],
)  # fmt: skip
def test_what_needs_masks_is_refused_without_them(kind: str, sampler: dict[str, object], message: str) -> None:
    every_frame = {"objective": {"mask_schedule": [1.0], "rtd": {"weight": 0.0}}}
    TrainRun.model_validate({"model": {"kind": kind}, "training": every_frame})
    with pytest.raises(ValidationError, match=message):
        TrainRun.model_validate({"model": {"kind": kind}, "training": every_frame, "sampler": sampler})


def test_until_keeps_the_stages_up_to_the_one_it_names() -> None:
    assert [stage.name for stage in TrainingConfig.model_validate({"until": "stage1"}).stages] == ["stage1"]
    assert TrainingConfig.model_validate({"until": "stage2"}) == TrainingConfig()
    with pytest.raises(ValidationError, match="got 'stage9', there are stage1, stage2"):
        TrainingConfig.model_validate({"until": "stage9"})
