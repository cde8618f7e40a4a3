"""Options of the loop in whole runs: bfloat16 and clipping."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from synthetic_dataset import song, write_dataset
from torch.optim.optimizer import register_optimizer_step_pre_hook

from model import checkpoint, journal
from model.config import ModelConfig, StageConfig, TrainingConfig, TrainRun
from model.train import train

TINY = ModelConfig(layers=2, width=16, heads=2, kv_heads=1, head_dim=8, ffn=32, prefix_width=8, attention_dropout=0.2)
STEPS = 4
STAGE = StageConfig(
    name="stage1", split="train-stage1", crop_tokens=32, steps=STEPS, batch_size=2, accumulation=2,
    learning_rate=1e-2, warmup_steps=2,
)  # fmt: skip
Optimizer = torch.optim.Optimizer


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    songs = [song(f"s{i}", 200, seed=i, variants=2) for i in range(3)]
    held_out = [song("v", 60, seed=9, split="val")]
    return write_dataset(tmp_path_factory.mktemp("data"), {"train-stage1": [songs], "val": [held_out]})


@pytest.fixture(autouse=True)
def no_state() -> Iterator[None]:
    """Accelerate keeps the precision that a process begins with."""
    yield
    AcceleratorState._reset_state()


def trained(
    dataset: Path, out: Path, stage: StageConfig = STAGE, model: ModelConfig = TINY, **training: object
) -> Path:
    settings = {"precision": "no", "crop_mode": "slice", "log_with": "", "log_every": 1, "stages": (stage,)}
    AcceleratorState._reset_state()
    run = TrainRun(model=model, training=TrainingConfig.model_validate({**settings, **training}))
    assert train(run, dataset, out).finished
    return out / "final"


def losses(folder: Path) -> list[float]:
    return [float(line["loss"]) for line in journal.read(folder.parent)]


@contextmanager
def watched(register: Callable[[Any], Any], look: Callable[[Optimizer], object]) -> Iterator[list[Any]]:
    """What `look` finds at every optimiser step."""
    seen: list[Any] = []
    handle = register(lambda optimizer, *_: seen.append(look(optimizer)))
    yield seen
    handle.remove()


def gradient_norm(optimizer: Optimizer) -> float:
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return float(torch.cat([grad.flatten() for grad in grads]).norm())


def test_bfloat16_trains_nearly_what_float32_trains_and_keeps_float32_weights(dataset: Path, tmp_path: Path) -> None:
    full, half = (trained(dataset, tmp_path / name, precision=name) for name in ("no", "bf16"))
    assert losses(half) == pytest.approx(losses(full), rel=0.01)  # bfloat16 keeps 8 bits: 0.4 %
    assert losses(half) != losses(full)
    assert {tensor.dtype for tensor in checkpoint.load(half).weights().values()} == {torch.float32}


def test_gradients_are_clipped_to_the_norm_and_told_as_they_were(dataset: Path, tmp_path: Path) -> None:
    with watched(register_optimizer_step_pre_hook, gradient_norm) as applied:
        folder = trained(dataset, tmp_path, clip=0.05)
    told = [float(line["grad_norm"]) for line in journal.read(folder.parent)]
    assert min(told) > 0.1
    assert applied == pytest.approx([0.05] * STEPS, rel=1e-4)


def test_smaller_gradients_are_left_as_they_are(dataset: Path, tmp_path: Path) -> None:
    with watched(register_optimizer_step_pre_hook, gradient_norm) as applied:
        folder = trained(dataset, tmp_path, clip=100.0)
    assert applied == pytest.approx([float(line["grad_norm"]) for line in journal.read(folder.parent)], rel=1e-3)
