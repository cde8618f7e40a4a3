"""The model can learn: two songs by heart, each called up by its vocal (issue: "It can learn")."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_dataset import song, write_dataset

from model import checkpoint, journal
from model.config import (
    CODES,
    ModelConfig,
    ObjectiveConfig,
    RtdConfig,
    SamplerConfig,
    StageConfig,
    TrainingConfig,
    TrainRun,
)
from model.denoising import Conditions, denoise
from model.network import MaskPredictor
from model.train import train
from pipeline.records.schema import Sample

TOKENS = 500  # 20 s


def two_songs() -> tuple[Sample, Sample]:
    """Equal length, uniform codes: about one in 16384 places has the same code in both."""
    a, b = song("a", TOKENS, seed=1), song("b", TOKENS, seed=2)
    assert np.mean(a.accompaniment == b.accompaniment) < 0.1
    return a, b


def recipe() -> TrainRun:
    model = ModelConfig(
        layers=2, width=128, heads=2, kv_heads=2, head_dim=64, ffn=256, prefix_width=8, attention_dropout=0.0
    )
    stage = StageConfig(
        name="stage1", split="train-stage1", crop_tokens=TOKENS, steps=160, batch_size=2, accumulation=1,
        learning_rate=3e-3, warmup_steps=20, weight_decay=0.0, condition_dropout=1.0,
    )  # fmt: skip
    training = TrainingConfig(
        stages=(stage,), objective=ObjectiveConfig(rtd=RtdConfig(weight=0.0)), precision="no", crop_mode="slice",
        log_with="", log_every=20, checkpoint_every=10_000, validate_samples=0,
    )  # fmt: skip
    return TrainRun(model=model, training=training, sampler=SamplerConfig(steps=20))


def played_to(sample: Sample, run: TrainRun, folder: Path) -> np.ndarray:
    network = MaskPredictor(run.model, rtd=False).eval()
    network.load_state_dict(checkpoint.load(folder).weights())
    null = Conditions(torch.zeros(2, run.model.prefix_width), torch.ones(2, dtype=torch.bool))
    return denoise(network, sample.vocal[0], null, run.sampler, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_songs_are_learnt_by_heart_and_told_apart_by_their_vocals(tmp_path: Path) -> None:
    a, b = two_songs()
    dataset, run = write_dataset(tmp_path / "data", {"train-stage1": [[a, b]]}), recipe()
    assert train(run, dataset, tmp_path / "run").finished
    assert journal.read(tmp_path / "run")[-1]["loss"] < 0.02 * math.log(CODES)
    for vocal, other in ((a, b), (b, a)):
        played = played_to(vocal, run, tmp_path / "run")
        assert np.mean(played == vocal.accompaniment[0, 0]) > 0.9
        assert np.mean(played == other.accompaniment[0, 0]) < 0.2
