"""Held-out likelihood in two kinds of frames, and as many forward passes in every process."""

import math
from dataclasses import replace

import pytest
import torch
from synthetic_dataset import song

from model.config import CODES, ModelConfig, StageConfig, TrainingConfig
from model.network import MaskPredictor
from model.validation import frame_nats, sung_frames, told, validate, validation_rows
from pipeline.records.schema import Sample

TINY = ModelConfig(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, ffn=32, prefix_width=8)
STAGE = StageConfig(name="stage1", split="train-stage1", crop_tokens=64, steps=1)
CPU = torch.device("cpu")


def voiced(key: str, tokens: int, *spans: tuple[float, float]) -> Sample:
    made = song(key, tokens, seed=len(key), split="val")
    return replace(made, info=replace(made.info, vocal_active=spans))


def settings(samples: int) -> TrainingConfig:
    return TrainingConfig(crop_mode="slice", validate_samples=samples)


def test_frames_are_sung_whose_middle_lies_in_a_span() -> None:
    info = voiced("a", 100, (1.0, 1.5), (2.02, 2.03)).info
    assert sung_frames(info, 0, 100).nonzero().squeeze(1).tolist() == [*range(25, 37), 50]
    assert sung_frames(info, 30, 10).tolist() == [True] * 7 + [False] * 3
    assert not sung_frames(voiced("b", 100).info, 0, 100).any()


def test_a_network_that_knows_nothing_pays_log_v_in_either_kind_of_frame() -> None:
    network = MaskPredictor(TINY, rtd=False)
    torch.nn.init.zeros_(network.to_logits.weight)
    songs = [voiced("a", 64, (0.0, 1.0)), voiced("bb", 40)]
    rows = validation_rows(songs, settings(8), STAGE, 0, 1)
    assert len(rows) == 2
    for row in rows:
        frames = int(row.batch.valid_BT.sum())
        assert float(frame_nats(network, row.batch, 3, CPU).sum()) == pytest.approx(frames * math.log(CODES))
    sums = validate(network.train(), rows, 16, CPU)
    assert network.training
    assert sums[[1, 3]].tolist() == [25, 64 - 25 + 40]
    assert float(sums[0] + sums[2]) == pytest.approx(104 * math.log(CODES))
    found = told(sums)
    assert found["val_nll"] == pytest.approx(math.log(CODES))
    assert set(found) == {"val_nll", "val_nll_sung", "val_nll_silent"}
    assert set(told(torch.tensor([0.0, 0.0, 8.0, 2.0]))) == {"val_nll", "val_nll_silent"}


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_process_runs_as_many_rows_and_each_song_counts_once(processes: int) -> None:
    songs = [voiced(key, 64, (0.0, 1.0)) for key in ("a", "bb", "ccc")]
    parts = [validation_rows(songs, settings(3), STAGE, rank, processes) for rank in range(processes)]
    assert len({len(part) for part in parts}) == 1
    counted = [row.batch.keys[0] for part in parts for row in part if row.counts]
    assert sorted(counted) == ["a", "bb", "ccc"]
    network = MaskPredictor(TINY, rtd=False)
    whole = validate(network, validation_rows(songs, settings(3), STAGE, 0, 1), 2, CPU)
    summed = sum((validate(network, part, 2, CPU) for part in parts), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(summed, whole)
