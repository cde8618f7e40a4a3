"""The model's benches at tiny size: what is compared is equal, what is not is refused, and the arithmetic is right."""

import json
import os
import shutil

import pytest
import torch
from typer.testing import CliRunner

from flows.bench import budget, gauge, sampler, training
from flows.bench.training import UnequalError
from flows.bench.training_variants import HuggingFace, Ours
from flows.cli.bench import commands
from model.config import CODES, ModelConfig
from model.network import MaskPredictor

TINY = ModelConfig(layers=2, width=32, heads=2, kv_heads=1, head_dim=16, ffn=48, attention_dropout=0.0, prefix_width=8)
EAGER = ("ours-eager", "hf-eager")
# torch's profiler asks for its own renaming, and its compiler warns about itself
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def nothing(done: int, total: int) -> None:
    """No bar."""


def small(variants: tuple[str, ...]) -> training.Setting:
    return training.Setting(model=TINY, frames=64, threads=1, rounds=3, variants=variants)


def test_both_ways_to_train_give_one_loss_and_are_paired_by_rounds() -> None:
    ours, theirs = training.run(small(EAGER), nothing)
    assert (ours.variant, theirs.variant, ours.baseline) == ("ours-eager", "hf-eager", "hf-eager")
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
    assert ours.ratio_low <= ours.ratio <= ours.ratio_high
    assert (theirs.ratio, theirs.ratio_low) == (1, 1)
    assert ours.loss_peak_bytes < 0.7 * theirs.loss_peak_bytes
    assert ours.gflops * 1e9 == pytest.approx(ours.share_of_peak * ours.gemm_gflops * 1e9)
    keys = {"variant", "seconds", "peak_bytes", "gflops", "share_of_peak", "ratio", "ratio_low", "load"}
    assert keys <= json.loads(training.to_json(ours)).keys()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("c++") is None and os.environ.get("CI") != "true", reason="torch.compile needs a C++ compiler"
)
def test_compiled_ways_give_the_same_loss() -> None:
    found = training.run(small(tuple(training.VARIANTS)), nothing)
    assert {result.variant: result.baseline for result in found} == training.BASELINE
    assert all(result.loss == pytest.approx(found[0].loss, rel=1e-4) for result in found)


def test_variants_that_differ_are_not_compared() -> None:
    setting = small(EAGER)
    torch.manual_seed(0)
    weights = MaskPredictor(TINY, rtd=False).state_dict()
    other = {name: tensor * 1.5 if name == "to_logits.weight" else tensor for name, tensor in weights.items()}
    made = {"ours-eager": Ours(TINY, weights, False), "hf-eager": HuggingFace(TINY, other, False)}
    with pytest.raises(UnequalError, match="the variants differ in their"):
        training.check_equal(made, training.make_batch(setting))


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_full_sort_gives_the_same_codes(guidance: float) -> None:
    setting = sampler.Setting(model=TINY, frames=48, steps=6, guidance=guidance, threads=1, rounds=2)
    ours, theirs = sampler.run(setting, nothing)
    assert (ours.variant, theirs.variant, ours.same_codes) == ("ours", "full-sort", True)
    assert ours.peak_bytes < theirs.peak_bytes
    assert json.loads(sampler.to_json(ours))["steps"] == 6


def test_another_law_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "full_sort", lambda network, song, config: torch.zeros(48, dtype=torch.int64))
    with pytest.raises(UnequalError, match=r"differ in 4\d of 48 codes"):
        sampler.run(sampler.Setting(model=TINY, frames=48, steps=2, threads=1, rounds=2), nothing)


def test_masked_frames_follow_the_schedule() -> None:
    assert sampler.masked_counts(sampler.Setting(frames=100, steps=4)) == [100, 92, 70, 38]


def test_bytes_are_those_that_were_held_at_once() -> None:
    def work() -> None:
        for _ in range(3):
            torch.ones(1_000_000).sum()

    assert 4_000_000 <= gauge.peak_bytes(work) < 4_100_000


def test_time_is_cpu_time_and_every_work_has_its_turn_first() -> None:
    calls: list[str] = []
    works = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = gauge.in_turns(works, 3, 1, nothing)
    assert calls == [*"abc", *"bca", *"cab"]
    assert all(len(column) == 3 and min(column) > 0 for column in seconds.values())


def test_the_budget_is_the_arithmetic_of_the_1b_model() -> None:
    # notes of the design: 2.147 GFLOP a code forward at 1024 codes, logits of all of them included
    rows, frames = 8, 1024
    everything = 3 * 2.147e9 * rows * frames
    unmasked = rows * frames * (1 - budget.MASKED)
    logits_left_out = 3 * 2 * 2048 * CODES * unmasked
    last_layer_left_out = 3 * 2.147e9 / 16 * 0.8 * unmasked  # of 16: queries, their attention and the feed-forward part
    wanted = everything - logits_left_out - last_layer_left_out
    assert budget.training_flop(budget.STAGE1, False) == pytest.approx(wanted, rel=0.01)
    head = 2 * 2048 * CODES * sum(sampler.masked_counts(sampler.Setting(frames=4096, steps=60)))
    one, two = (budget.generation_flop(4096, 60, variants) for variants in (1, 2))
    assert two - head == pytest.approx(2 * (one - head))  # guided before the head
    result = CliRunner().invoke(commands, ["budget"])
    assert "| stage1, 1024 codes, RTD off | 51 |" in result.stdout
    assert result.exit_code == 0
