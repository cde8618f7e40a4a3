"""The ablation with continuous latents from song files to a band: build, train, generate, evaluate, by the commands."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_library import SETTINGS
from typer.testing import CliRunner

from flows.build_dataset import BuildResult
from flows.cli.main import commands
from model import journal
from model.shards import ShardSamples

pytestmark = pytest.mark.timeout(600)
TRAINING = """\
base: demo-continuous
sampler: {steps: 4}
model: {layers: 2, width: 64, heads: 2, kv_heads: 1, head_dim: 32, ffn: 96}
evaluation: {warmup_seconds: 0.0, bootstrap_draws: 100}
training:
  log_every: 1
  stages:
    - {name: stage1, split: train-stage1, crop_tokens: 64, steps: 20, accumulation: 1, learning_rate: 3.0e-3,
       warmup_steps: 1}
    - {name: stage2, split: train-stage2, crop_tokens: 128, steps: 3, accumulation: 1, learning_rate: 1.0e-3,
       warmup_steps: 1}
"""


def backline(*words: object) -> str:
    done = CliRunner().invoke(commands, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def dataset(built: BuildResult, root: Path, library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built where the recipe `demo` was built before: only what the latents change is worked on."""
    mine = Path(shutil.copytree(root, tmp_path_factory.mktemp("continuous") / "root"))
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    backline("build", "--recipe", "demo-continuous", "--library", library, "--root", mine, *settings)
    before, after = ({path.name for path in (folder / "stages").iterdir()} for folder in (root, mine))
    assert {name.rsplit("-", 1)[0] for name in after - before} == {"tokenization", "tokenization-copies"}
    return mine / "datasets" / "demo-continuous"


def test_shards_hold_the_latents_of_every_stream(dataset: Path) -> None:
    for split in ("train-stage1", "val", "test"):
        for sample in ShardSamples(dataset, split):
            assert set(sample.latents) == {"vocal", "accompaniment"}
            assert sample.latents["vocal"].shape[:2] == sample.vocal.shape
            assert sample.latents["accompaniment"].shape[:3] == sample.accompaniment.shape


def test_it_trains_and_plays_beside_a_voice(dataset: Path, library: Path, tmp_path: Path) -> None:
    recipe, run, band = tmp_path / "tiny.yaml", tmp_path / "run", tmp_path / "band.wav"
    recipe.write_text(TRAINING)
    backline("train", "--recipe", recipe, "--dataset", dataset, "--out", run)
    lines = journal.read(run)
    assert [line["stage"] for line in lines] == ["stage1"] * 20 + ["stage2"] * 3
    assert all(0 < float(line["loss"]) < 10 for line in lines)  # that it learns: tests/model/test_flow.py

    voice = library.parent / "song" / "song-43" / "vocal.flac"
    backline("generate", "--checkpoint", run, "--vocal", voice, "--text", "a folk song", "--out", band, "--seed", 3)
    sound, rate = soundfile.read(band)
    assert (len(sound), rate) == (soundfile.info(voice).frames, 48_000)
    assert np.sqrt(np.mean(sound**2)) > 1e-4
    assert np.abs(sound).max() < 1.0
    assert json.loads(Path(f"{band}.json").read_text())["seed"] == 3

    out = tmp_path / "report"
    backline("evaluate", "--recipe", recipe, "--checkpoint", run, "--dataset", dataset, "--out", out)
    scores = {score["name"] for score in json.loads((out / "results.json").read_text())["scores"]}
    assert "onset_f1" in scores
    assert "nll" not in scores  # latents have no likelihood
