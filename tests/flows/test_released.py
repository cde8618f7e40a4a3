"""`generate --recipe upstream`: a tiny stand-in of the authors' checkpoint, pulled, converted once and played."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_paper import pull_all, write_mirror
from typer.testing import CliRunner, Result

from flows.cli.main import commands
from flows.doctor import Machine, examine
from flows.recipe import load_recipe
from flows.released import released_checkpoint
from model import checkpoint
from model.interchange import read_released, released_shape
from pipeline.assets.pull import install
from pipeline.assets.store import asset, held
from pipeline.errors import BackendUnavailable, BadInput

PARTS = ("lada-band", "mucodec", "mucodec-vae", "clamp3", "mert-95m", "xlm-roberta-tokenizer")
FAST = "codec.mucodec={steps: 1, guidance: 1.0}"
CPU = Machine(gpus_gb=(), memory_gb=64.0, disk_gb=1000.0)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mirror(tmp_path_factory.mktemp("mirror"), *PARTS)


@pytest.fixture
def store(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    time = np.arange(2 * 48_000) / 48_000
    sung = 0.2 * np.sin(2 * np.pi * 220 * time + 3 * np.sin(2 * np.pi * 5 * time))
    soundfile.write(tmp_path / "me.wav", sung, 48_000)
    return tmp_path / "me.wav"


def generate(voice: Path, out: Path, *more: str) -> Result:
    words = ["generate", "--vocal", str(voice), "--out", str(out), "--steps", "2", "--text", "a rock track", *more]
    words += ["--set", FAST] if "--recipe" in more else []
    return CliRunner().invoke(commands, words)


def test_the_published_weights_play_with_the_recipes_own_sizes_and_settings(
    mirror: Path, store: Path, voice: Path, tmp_path: Path
) -> None:
    pull_all(mirror, *PARTS)
    told = generate(voice, tmp_path / "band.wav", "--recipe", "upstream")
    assert told.exit_code == 0, (told.output, told.exception)
    samples, rate = soundfile.read(tmp_path / "band.wav")
    assert (rate, samples.shape) == (48_000, (96_000, 2))
    assert np.abs(samples).max() > 0
    folder = released_checkpoint(load_recipe("upstream", [FAST]))
    run = checkpoint.load(folder).run
    assert (run.model.layers, run.model.width, run.model.heads, run.model.ffn) == (2, 64, 1, 48)  # the file's
    assert (run.model.rope_theta, run.model.rms_eps) == (10_000.0, 1e-6)  # the recipe's
    assert run.sampler.prefix_order == "reference_text"
    assert run.codec.backend == "mucodec"
    before = (folder / "COMPLETE").stat().st_mtime_ns
    assert released_checkpoint(load_recipe("upstream", [FAST])) == folder
    assert (folder / "COMPLETE").stat().st_mtime_ns == before  # converted once
    assert released_checkpoint(load_recipe("upstream")) != folder


def test_the_card_beside_the_converted_weights_tells_hashes_and_terms(mirror: Path, store: Path) -> None:
    pull_all(mirror, *PARTS)
    card = (released_checkpoint(load_recipe("upstream")) / checkpoint.CARD).read_text(encoding="utf-8")
    for name in PARTS:
        assert held(name).weights_sha256 in card
        assert held(name).licence in card
    assert "Weights that made this model allow no commercial use" in card
    assert asset("lada-band").doubt in card


def test_weights_are_those_of_the_file(mirror: Path, store: Path) -> None:
    pull_all(mirror, "lada-band")
    pickled = read_released(mirror / "lada-band" / asset("lada-band").files[0].path)
    kept = checkpoint.load(released_checkpoint(load_recipe("upstream"))).weights()
    assert kept.keys() == pickled.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in pickled.items())
    assert "rtd_head.weight" in kept


def test_at_its_true_size_it_is_the_recipes_model() -> None:
    from model.network import MaskPredictor

    config = load_recipe("upstream").model
    with torch.device("meta"):
        state = MaskPredictor(config, rtd=True).state_dict()
    assert released_shape(state, config) == config
    assert {name: list(tensor.shape) for name, tensor in state.items()} == published()
    with pytest.raises(BadInput, match="have not the layout of LaDA-Band's"):
        released_shape({"weight": torch.zeros(3)}, config)


def published() -> dict[str, list[int]]:
    """Names and shapes in the released checkpoint, as the notes on its code have them; without its unused embedding."""
    layer = {
        "self_attn.q_proj": [2048, 2048], "self_attn.k_proj": [512, 2048], "self_attn.v_proj": [512, 2048],
        "self_attn.o_proj": [2048, 2048], "mlp.gate_proj": [8192, 2048], "mlp.up_proj": [8192, 2048],
        "mlp.down_proj": [2048, 8192], "input_layernorm": [2048], "post_attention_layernorm": [2048],
    }  # fmt: skip
    layers = {f"lm.layers.{n}.{name}.weight": shape for n in range(16) for name, shape in layer.items()}
    return layers | {
        "lm.norm.weight": [2048], "voc_embed.weight": [16_385, 1024], "acc_embed.weight": [16_386, 1024],
        "to_logits.weight": [16_384, 2048], "clamp_proj.weight": [2048, 768], "clamp_proj.bias": [2048],
        "rtd_head.weight": [1, 2048], "rtd_head.bias": [1],
    }  # fmt: skip


def test_what_is_missing_or_does_not_fit_is_one_sentence(
    mirror: Path, store: Path, voice: Path, tmp_path: Path
) -> None:
    told = generate(voice, tmp_path / "band.wav", "--recipe", "upstream")
    assert isinstance(told.exception, BackendUnavailable)
    assert "backline assets pull lada-band --accept-licence" in str(told.exception)
    assert not (tmp_path / "band.wav").exists()
    lacks = [one for one in examine(load_recipe("upstream"), CPU) if one.wanted_by == "model"]
    assert [one.mend for one in lacks] == ["backline assets pull lada-band --accept-licence"]
    nobody = generate(voice, tmp_path / "band.wav", "--recipe", "demo")
    assert "nobody published weights of recipe 'demo'" in str(nobody.exception)
    assert generate(voice, tmp_path / "band.wav").exit_code == 2
    name = asset("lada-band").files[0].path
    content = torch.load(mirror / "lada-band" / name, weights_only=False)
    content["state_dict"]["model.lm.norm.weight"] = torch.ones(3)
    (tmp_path / "bent" / name).parent.mkdir(parents=True)
    torch.save(content, tmp_path / "bent" / name)
    install("lada-band", tmp_path / "bent", check=False)
    with pytest.raises(BackendUnavailable, match=r"lm\.norm\.weight is \[3\], not \[64\]"):
        released_checkpoint(load_recipe("upstream"))
    assert list((store / "lada-band" / "converted").glob("*")) == []
