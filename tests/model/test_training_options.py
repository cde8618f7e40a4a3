"""Options of the loop in whole runs: precision, clipping, decay, recomputing, compiling, workers; what it journals."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from synthetic_dataset import song, write_dataset
from test_gloo import heard_by_ours
from test_optimisation import with_compiler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from model import checkpoint, journal
from model.checkpoint import WEIGHTS
from model.config import ModelConfig, ObjectiveConfig, StageConfig, TrainingConfig, TrainRun
from model.data import Drawing, MicroBatches, RowSource, Slicing
from model.objective import Objective, denominators
from model.optimisation import learning_rate
from model.shards import ShardSamples
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


def same_bytes(one: Path, other: Path) -> bool:
    return (one / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()


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


def first_of_each_group(optimizer: Optimizer) -> list[torch.Tensor]:
    return [group["params"][0].detach().clone() for group in optimizer.param_groups]


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


def test_every_step_has_its_rate_and_spares_what_does_not_decay(dataset: Path, tmp_path: Path) -> None:
    stage = STAGE.model_copy(update={"decay": "matrices", "weight_decay": 0.3})

    def settings(optimizer: Optimizer) -> list[tuple[float, float]]:
        return [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups]

    with watched(register_optimizer_step_pre_hook, settings) as applied:
        folder = trained(dataset, tmp_path, stage)
    rates = [learning_rate(stage, step) for step in range(STEPS)]
    assert applied == [[(rate, 0.3), (rate, 0.0)] for rate in rates]
    assert [line["lr"] for line in journal.read(folder.parent)] == rates


def test_a_step_of_adamw_is_the_papers(dataset: Path, tmp_path: Path) -> None:
    """The first one in closed form: Adam moves by the sign of the gradient, decay by a share of the weight."""
    stage = STAGE.model_copy(update={"decay": "matrices", "weight_decay": 0.3, "eps": 1e-20})

    def before(optimizer: Optimizer) -> list[tuple[torch.Tensor, torch.Tensor]]:
        grads = [group["params"][0].grad for group in optimizer.param_groups]
        assert all(grad is not None for grad in grads)
        return list(zip(first_of_each_group(optimizer), [g.sign() for g in grads if g is not None], strict=True))

    with watched(register_optimizer_step_pre_hook, before) as olds:  # noqa: SIM117
        with watched(register_optimizer_step_post_hook, first_of_each_group) as news:
            trained(dataset, tmp_path, stage)
    rate = learning_rate(stage, 0)
    for (old, sign), new, decay in zip(olds[0], news[0], (0.3, 0.0), strict=True):
        torch.testing.assert_close(new, old * (1 - rate * decay) - rate * sign)


def test_recomputed_layers_train_to_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    plain, again = (trained(dataset, tmp_path / str(on), recompute=on) for on in (False, True))
    assert losses(again) == losses(plain)
    assert same_bytes(again, plain)


def test_data_workers_train_to_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    """In processes of their own, as everywhere but in tests: workers are forks of the trainer, threads and all."""
    settings = TrainRun.model_validate_json((trained(dataset, tmp_path) / checkpoint.RUN).read_text(encoding="utf-8"))
    for workers in (0, 2):
        run, training = tmp_path / f"{workers}.json", settings.training.model_copy(update={"workers": workers})
        run.write_text(settings.model_copy(update={"training": training}).model_dump_json(), encoding="utf-8")
        words = ["-m", "model.train", "--run", run, "--dataset", dataset, "--out", tmp_path / str(workers)]
        subprocess.run([sys.executable, *map(str, words)], check=True, timeout=120)
    alone, helped = tmp_path / "0" / "final", tmp_path / "2" / "final"
    assert losses(helped) == losses(alone)
    assert same_bytes(helped, alone)


def test_a_line_of_the_journal_tells_all_that_is_worth_knowing(dataset: Path, tmp_path: Path) -> None:
    folder = trained(dataset, tmp_path)
    for line in journal.read(folder.parent):
        by_ratio = {name for name in line if name.startswith("masked_accuracy_")}
        assert by_ratio
        assert set(line) - by_ratio >= {
            "step", "stage", "loss", "cml", "rtd", "lr", "grad_norm", "masked_accuracy", "tokens_per_second", "mfu",
            "rtd_auc", "rtd_balanced_accuracy", "rtd_replaced_share", "reference_impossible",
        }  # fmt: skip
        assert 0 < float(line["mfu"]) < 1
    assert {"val_nll", "val_nll_silent"} <= set(journal.read(folder.parent)[-1])


@pytest.mark.parametrize("scope", ["micro_batch", "global"])
def test_the_mean_over_masked_codes_is_each_micro_batchs_or_the_steps(
    dataset: Path, tmp_path: Path, scope: str
) -> None:
    config = ObjectiveConfig.model_validate({"loss": "mean_masked", "scope": scope, "rtd": {"weight": 0.0}})
    model = TINY.model_copy(update={"attention_dropout": 0.0})
    folder = trained(dataset, tmp_path, STAGE.model_copy(update={"steps": 1}), model, objective=config)
    torch.manual_seed(0)
    objective = Objective(model, config)
    source = RowSource(ShardSamples(dataset, "train-stage1"), Drawing(0, 0, 32, "slice", 0.5))
    data = MicroBatches(source, Slicing(0, 0, 2, 0, 1, config))
    losses = torch.stack([objective(data[index]).masked_loss for index in range(2)])
    codes = torch.stack([denominators(config, data[index]).masked for index in range(2)])
    assert codes[0] != codes[1], "else the two are the same"
    mean = (losses / codes).mean() if scope == "micro_batch" else losses.sum() / codes.sum()
    mean.backward()  # type: ignore[no-untyped-call]
    (line,) = journal.read(folder.parent)
    assert line["loss"] == pytest.approx(float(mean.detach()), rel=1e-6)
    norm = torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None]).norm()
    assert line["grad_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_a_run_that_plays_to_a_voice_trains_like_one_that_does_not(tmp_path: Path) -> None:
    held_out = song("v", 60, seed=9, split="val")
    held_out = replace(held_out, info=replace(held_out.info, vocal_active=((0.4, 1.6),)))
    songs = [heard_by_ours(song(f"s{i}", 200, seed=i)) for i in range(3)]
    dataset = write_dataset(tmp_path / "data", {"train-stage1": [songs], "val": [[heard_by_ours(held_out)]]})
    deaf, listening = (trained(dataset, tmp_path / str(every), listen_every=every) for every in (0, 3))
    assert same_bytes(listening, deaf)
    assert losses(listening) == losses(deaf)
    heard = [f"step-{step:08d}.{kind}" for step in (3, STEPS) for kind in ("flac", "png")]
    assert {path.name for path in (listening.parent / "heard").iterdir()} == {"voice.flac", "truth.flac", *heard}
    assert not (deaf.parent / "heard").exists()
    assert {"val_nll", "val_nll_sung", "val_nll_silent"} <= set(journal.read(listening.parent)[-1])


@with_compiler
def test_compiled_layers_train_nearly_the_same_under_the_same_names(dataset: Path, tmp_path: Path) -> None:
    model = TINY.model_copy(update={"attention_dropout": 0.0})  # it draws other numbers when compiled
    plain, compiled = (trained(dataset, tmp_path / str(on), model=model, compile=on) for on in (False, True))
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)
    assert checkpoint.load(compiled).weights().keys() == checkpoint.load(plain).weights().keys()
