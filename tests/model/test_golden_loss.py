"""One fixed-seed run against the losses it had when they were written down: guards refactors of data, model and loss.

A change that is meant to change training replaces tests/golden/loss.json by the list that the failure prints.
"""

import json
from pathlib import Path

import pytest
from synthetic_dataset import song, write_dataset

from model import journal
from model.config import ModelConfig, StageConfig, TrainingConfig, TrainRun
from model.train import train

GOLDEN = Path(__file__).parents[1] / "golden" / "loss.json"


def recipe() -> TrainRun:
    """Two stages, accumulation, both losses; no dropout, whose draws differ between devices."""
    model = ModelConfig(
        layers=2, width=32, heads=2, kv_heads=1, head_dim=16, ffn=64, prefix_width=8, attention_dropout=0.0
    )
    stages = tuple(
        StageConfig(
            name=f"stage{n}", split=f"train-stage{n}", crop_tokens=32 * n, steps=5, batch_size=2, accumulation=2,
            learning_rate=1e-2, warmup_steps=2,
        )
        for n in (1, 2)
    )  # fmt: skip
    training = TrainingConfig(
        stages=stages, precision="no", crop_mode="slice", log_with="", log_every=1, validate_samples=0
    )
    return TrainRun(model=model, training=training)


def test_ten_steps_have_the_losses_of_old(tmp_path: Path) -> None:
    songs = [song(f"s{i}", 400, seed=i, variants=2) for i in range(3)]
    dataset = write_dataset(tmp_path / "data", {"train-stage1": [songs], "train-stage2": [songs[:2]]})
    train(recipe(), dataset, tmp_path / "run")
    found = [{name: line[name] for name in ("cml", "rtd", "grad_norm")} for line in journal.read(tmp_path / "run")]
    expected = json.loads(GOLDEN.read_text())
    for name in ("cml", "rtd", "grad_norm"):
        told, old = ([line[name] for line in lines] for lines in (found, expected))
        assert told == pytest.approx(old, rel=1e-4), f"losses now: {json.dumps(found)}"
