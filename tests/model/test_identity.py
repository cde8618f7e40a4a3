"""What two runs differ in, told by name."""

from model.config import ModelConfig, StageConfig, TrainingConfig, TrainRun
from model.identity import TOLD, told


def test_settings_are_named_with_both_values_down_to_the_stage() -> None:
    stages = [StageConfig(name="a", split="s", crop_tokens=8, steps=steps) for steps in (5, 6)]
    old, new = (TrainRun(training=TrainingConfig(stages=(stage,))) for stage in stages)
    assert told(old, new) == "training.stages.0.steps was 5, given 6"
    assert told(old, old) == ""


def test_a_stage_more_is_told_as_absent_before() -> None:
    first, second = (StageConfig(name=name, split="s", crop_tokens=8, steps=5) for name in "ab")
    old, new = (
        TrainRun(training=TrainingConfig(stages=(first,))),
        TrainRun(training=TrainingConfig(stages=(first, second))),
    )
    assert told(old, new).startswith("training.stages.1.name was absent, given b, ")


def test_many_differences_are_counted() -> None:
    other = TrainRun(model=ModelConfig(layers=1, width=2, heads=2, kv_heads=1, head_dim=2, ffn=3, rope_theta=1.0))
    text = told(TrainRun(), other)
    assert text.count(" was ") == TOLD
    assert text.endswith(" and 2 more")
