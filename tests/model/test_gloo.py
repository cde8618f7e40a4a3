"""Several processes over gloo, copies (DDP) and shards (FSDP2): what one process trains, to 1e-12; resumed to a bit.

They also tell the same likelihoods and play the same notes behind the same voice. Networks of latents are among them.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from gloo_driver import MODEL, STEPS, run_all
from synthetic_dataset import song, with_latents, write_dataset

from model import checkpoint, journal
from model.checkpoint import STATE, WEIGHTS
from pipeline.codec.codec import CodecConfig, weights_sha256
from pipeline.records.schema import BackendRecord, Sample

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
OBJECTIVES: dict[str, dict[str, Any]] = {
    "inv_t": {"loss": "inv_t"},
    "elbo": {"loss": "elbo", "mask_schedule": "linear"},
    "mean_masked": {"loss": "mean_masked", "scope": "global"},
    "flow": {"mask_schedule": [1.0], "rtd": {"weight": 0.0}},
}
FSDP2 = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "FSDP",
    "fsdp_config": {"fsdp_version": 2, "fsdp_reshard_after_forward": True},
    "mixed_precision": "no",
    "num_machines": 1,
    "num_processes": 2,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs shorter than the crop and longer ones: every batch is ragged."""
    songs = [song(f"s{i}", 20 + 17 * i, seed=i) for i in range(4)]
    held_out = [song(f"v{i}", 60, seed=9 + i, split="val") for i in range(3)]
    parts = {"train-stage1": [[heard_by_ours(one) for one in songs]], "val": [[heard_by_ours(one) for one in held_out]]}
    return write_dataset(tmp_path_factory.mktemp("data"), parts)


def heard_by_ours(sample: Sample) -> Sample:
    """The song as if the embedded codec had made its codes and latents, so that what is played can be heard."""
    ours = BackendRecord("codec", "embedded", weights_sha256(CodecConfig()), "")
    others = tuple(one for one in sample.info.backends if one.stage != "codec")
    return with_latents(replace(sample, info=replace(sample.info, backends=(ours, *others))), MODEL.latent_width)


def cases(accumulation: int, batch_size: int) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "accumulation": accumulation, "batch_size": batch_size, "objective": objective, "listen": name == "inv_t",
            "kind": "flow" if name == "flow" else "mask",
        }
        for name, objective in OBJECTIVES.items()
    }  # fmt: skip


def launch(dataset: Path, out: Path, what: dict[str, dict[str, Any]], config: dict[str, Any] | None = None) -> None:
    """The driver on two gloo processes, as `backline train` launches them."""
    words = [sys.executable, "-m", "accelerate.commands.launch"]
    if config is None:
        words += ["--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
        words += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    else:
        out.mkdir(parents=True, exist_ok=True)
        (out / "accelerate.yaml").write_text(yaml.safe_dump(config))
        words += ["--config_file", str(out / "accelerate.yaml")]
    words += [str(Path(__file__).parent / "gloo_driver.py"), str(dataset), str(out), json.dumps(what)]
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    subprocess.run(words, check=True, env=environment, timeout=600)


@pytest.fixture(scope="module")
def single(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, one batch of four rows a step."""
    out = tmp_path_factory.mktemp("single")
    run_all(dataset, out, cases(accumulation=1, batch_size=4))
    return out


def assert_same(one: Path, other: Path) -> None:
    """Weights, and what the journals say of every step, to 1e-12; and what is played, to a bit."""
    heard = Path("inv_t") / "heard" / f"step-{STEPS:08d}.flac"
    assert (other / heard).read_bytes() == (one / heard).read_bytes()
    for name in OBJECTIVES:
        first, second = (checkpoint.load(folder / name) for folder in (one, other))
        assert first.progress == second.progress
        assert first.progress.step == STEPS
        theirs = second.weights()
        for key, tensor in first.weights().items():
            assert tensor.dtype == torch.float64
            torch.testing.assert_close(theirs[key], tensor, rtol=1e-12, atol=1e-12)
        for old, new in zip(journal.read(one / name), journal.read(other / name), strict=True):
            assert ("val_nll" in old) == (old["step"] == STEPS and name != "flow")  # latents have no likelihood
            for key in {"loss", "cml", "rtd", "grad_norm", "masked_accuracy", "val_nll", "val_nll_silent"} & set(old):
                assert new[key] == pytest.approx(old[key], rel=1e-12), (name, key)


def weights(run: Path) -> bytes:
    return (run / "final" / WEIGHTS).read_bytes()


def test_accumulation_is_the_large_batch(dataset: Path, single: Path, tmp_path: Path) -> None:
    run_all(dataset, tmp_path, cases(accumulation=2, batch_size=2))
    assert_same(single, tmp_path)


def test_two_copies_are_one_process(dataset: Path, single: Path, tmp_path: Path) -> None:
    each = {"batch_size": 1, "objective": {"loss": "mean_masked", "scope": "micro_batch"}}
    run_all(dataset, tmp_path / "one", {"micro_batch": each | {"accumulation": 4}})
    launch(dataset, tmp_path, cases(accumulation=2, batch_size=1) | {"micro_batch": each | {"accumulation": 2}})
    assert_same(single, tmp_path)
    one, two = (checkpoint.load(folder / "micro_batch").weights() for folder in (tmp_path / "one", tmp_path))
    torch.testing.assert_close(two, one, rtol=1e-12, atol=1e-12)


def test_two_shards_are_one_process_and_their_checkpoint_is_whole_and_resumes(
    dataset: Path, single: Path, tmp_path: Path
) -> None:
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    small = {"accumulation": 2, "batch_size": 1, "objective": {"loss": "inv_t"}}
    what = cases(accumulation=2, batch_size=1) | {
        "mean": small | {"weight_mean": 0.5},
        "again": small | {"recompute": True},  # as 3b is trained
    }
    launch(dataset, undisturbed, what, FSDP2)
    assert_same(single, undisturbed)
    assert weights(undisturbed / "again") == weights(undisturbed / "inv_t")

    launch(dataset, stopped, {name: case | {"stop": 2} for name, case in what.items()}, FSDP2)
    found = checkpoint.load(stopped / "inv_t")
    assert (found.path.name, len(found.state().rng)) == ("step-00000002", 2)
    assert {key: tuple(t.shape) for key, t in found.weights().items()} == {
        key: tuple(t.shape) for key, t in checkpoint.load(single / "inv_t").weights().items()
    }
    assert found.weights()["voc_embed.weight"].shape == (16_385, MODEL.width // 2)
    assert all(type(t["exp_avg"]) is torch.Tensor for t in found.state().optimizer["state"].values())
    launch(dataset, stopped, what, FSDP2)
    for name in what:
        assert weights(stopped / name) == weights(undisturbed / name), name
    assert not (stopped / "inv_t" / "final" / STATE).exists()
