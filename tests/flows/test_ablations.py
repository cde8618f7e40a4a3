"""Every ablation of the recipe `demo`, made small: it builds, trains, stops, resumes to the bit, and plays."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_dataset import song, with_latents, write_dataset

from flows.recipe import ablations, load_recipe
from model import checkpoint, journal
from model.checkpoint import WEIGHTS, resolve
from model.config import TrainRun
from model.generate import Generator
from model.stopping import StopRequest
from model.train import Trainer, train
from pipeline.errors import BadInput
from pipeline.records.schema import Sample
from pipeline.types import Audio

SMALL = [
    "model.layers=1", "model.width=32", "model.heads=2", "model.kv_heads=1", "model.head_dim=16", "model.ffn=48",
    "training.log_every=1", "training.log_with=''", "sampler.steps=3",
    "training.stages=["
    "{name: stage1, split: train-stage1, crop_tokens: 24, steps: 3, batch_size: 2, accumulation: 1, warmup_steps: 1},"
    "{name: stage2, split: train-stage2, crop_tokens: 40, steps: 2, batch_size: 2, accumulation: 1, warmup_steps: 1}]",
]  # fmt: skip
MORE = {  # settings that no ablation has, and that must go the same way
    "packed": ("demo", ["model.pack=true"]),
    "aligned": ("demo-single-stream", ["model.positions=aligned", "model.embeddings=codebook"]),
    "prefix-lm": ("demo-autoregressive", ["model.layout=prefix"]),
    "guided": ("demo-autoregressive", ["sampler.guidance_text=2.0", "model.lookahead=2"]),
    "guided-latents": ("demo-continuous", ["sampler.guidance_text=2.0", "sampler.solver=euler", "model.pack=true"]),
}
CASES = {name: (f"demo-{name}", list[str]()) for name in ablations()} | MORE
MARKED = [pytest.param(case, marks=[pytest.mark.slow] if case in MORE else []) for case in CASES]


def usable(sample: Sample) -> Sample:
    """With latents as wide as the codec's, and silent about whose codes these are: nobody encoded them."""
    backends = tuple(replace(backend, weights_sha256="") for backend in sample.info.backends)
    return with_latents(replace(sample, info=replace(sample.info, backends=backends)), 128)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    songs = [usable(song(f"s{i}", 30 + 20 * i, seed=i, variants=1, width=384)) for i in range(3)]
    held_out = [usable(song("v0", 60, seed=9, split="val", width=384))]
    return write_dataset(
        tmp_path_factory.mktemp("data"), {"train-stage1": [songs], "train-stage2": [songs], "val": [held_out]}
    )


class StopAt(StopRequest):
    """Asked to stop when the run has taken so many steps."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step

    @property
    def requested(self) -> bool:  # type: ignore[override]
        return len(journal.read(self.folder)) >= self.step


def trained(run: TrainRun, dataset: Path, folder: Path) -> bytes:
    assert train(run, dataset, folder).finished
    return (resolve(folder) / WEIGHTS).read_bytes()


def run_of(case: str) -> TrainRun:
    name, overrides = CASES[case]
    return load_recipe(name, [*SMALL, *overrides]).train_run()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", MARKED)
def test_it_trains_resumes_and_plays(case: str, dataset: Path, tmp_path: Path) -> None:
    run, undisturbed, stopped = run_of(case), tmp_path / "a", tmp_path / "b"
    weights = trained(run, dataset, undisturbed)
    assert not Trainer(run, dataset, stopped, StopAt(stopped, 2))().finished
    assert trained(run, dataset, stopped) == weights
    lines = journal.read(stopped)
    assert [line["stage"] for line in lines] == ["stage1"] * 3 + ["stage2"] * 2 * (len(run.training.stages) - 1)
    assert all(np.isfinite(float(line["loss"])) for line in lines)
    assert any("val_nll" in line for line in lines) == (run.model.kind != "flow")
    plays(stopped, run)


def plays(folder: Path, run: TrainRun) -> None:
    generator = Generator(folder)
    time = np.arange(47_000) / 48_000
    vocal = Audio((0.1 * np.sin(2 * np.pi * 220 * time))[None].astype(np.float32), 48_000)
    told: list[tuple[int, int]] = []
    one = generator(vocal, "a slow waltz", None, run.sampler, 1, lambda done, of: told.append((done, of)))
    other = generator(vocal, "a slow waltz", None, run.sampler, 2)
    assert one.accompaniment.samples.shape == (2, 47_000)
    assert not np.array_equal(one.accompaniment.samples, other.accompaniment.samples)
    assert told[-1][0] == told[-1][1] == (25 if run.model.kind == "autoregressive" else 3)
    assert len(one.codes) == (0 if run.model.kind == "flow" else 25)


def test_packing_trains_what_padding_trains(dataset: Path, tmp_path: Path) -> None:
    def losses(overrides: list[str]) -> list[float]:
        run = load_recipe("demo", [*SMALL, *overrides]).train_run()
        folder = tmp_path / str(len(overrides))
        train(run, dataset, folder)
        return [float(line["loss"]) for line in journal.read(folder)]

    assert losses(["model.pack=true"]) == pytest.approx(losses([]), rel=1e-4)


def without_latents(sample: Sample) -> Sample:
    return replace(sample, latents={})


def test_a_dataset_without_latents_is_refused_by_name(tmp_path: Path) -> None:
    songs: list[Any] = [without_latents(usable(song("s", 60, width=384)))]
    data = write_dataset(tmp_path / "data", {"train-stage1": [songs], "train-stage2": [songs]})
    with pytest.raises(BadInput, match=r"no latents.*tokenization\.latents: true") as caught:
        train(run_of("continuous"), data, tmp_path / "run")
    assert caught.value.reason == "no_latents"
    assert not checkpoint.complete(tmp_path / "run" / "final")


def test_kept_codes_mean_nothing_to_latents(dataset: Path, tmp_path: Path) -> None:
    train(run_of("continuous"), dataset, tmp_path)
    vocal = Audio(np.full((1, 4800), 0.1, np.float32), 48_000)
    with pytest.raises(BadInput, match="keeps no codes"):
        Generator(tmp_path)(vocal, None, None, run_of("continuous").sampler, 0, fixed=np.zeros(3, np.int64))
