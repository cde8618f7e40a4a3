"""Weights in others' files: Hugging Face Llama both ways, the released Lightning checkpoint, and what does not fit."""

import os
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from test_network import SMALL, inputs, network, reference_llama
from torch import Tensor

from model.config import ModelConfig, TrainRun
from model.interchange import from_llama, load_backbone, load_released, read_llama, read_released, to_llama
from model.kinds import begin, build_network
from model.network import MaskPredictor
from pipeline.errors import BadInput


def released(weights: dict[str, Tensor], **beside: object) -> dict[str, object]:
    """A checkpoint with the keys that the released one has."""
    state = {f"model.{name}": tensor for name, tensor in weights.items()}
    state["model.lm.embed_tokens.weight"] = torch.zeros(1, SMALL.width)
    for other in ("clamp3.head.weight", "codec_model.x", "codec_vae.y", "codec_stft.window"):
        state[f"model.{other}"] = torch.ones(3)
    return {"epoch": 3, "global_step": 10_000, "state_dict": state, **beside}


class Hyper:
    """Something in the file that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def test_a_run_may_begin_with_a_llamas_layers(tmp_path: Path) -> None:
    torch.manual_seed(3)
    theirs = reference_llama(SMALL)
    theirs.save_pretrained(tmp_path / "llama")
    given = {**SMALL.model_dump(), "init": "llama", "init_weights": str(tmp_path / "llama")}
    run = TrainRun(model=ModelConfig.model_validate(given))
    network = build_network(run.model, rtd=True)
    begin(network, run)
    for name, tensor in theirs.state_dict().items():
        assert name == "embed_tokens.weight" or torch.equal(network.lm.state_dict()[name], tensor)
    narrow = ModelConfig.model_validate(given | {"ffn": 48})
    with pytest.raises(BadInput, match="do not fit the model"):
        begin(build_network(narrow, rtd=True), TrainRun(model=narrow))
    with pytest.raises(BadInput, match="holds no safetensors file"):
        read_llama(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(BadInput, match="can't be read as safetensors"):
        read_llama(tmp_path / "x.safetensors")
    with pytest.raises(ValidationError, match=r"needs model\.init_weights"):
        ModelConfig(init="llama")


def test_the_backbone_goes_to_llama_and_back_and_computes_the_same() -> None:
    ours, theirs = network(), reference_llama(SMALL).double().eval()
    missing, unexpected = theirs.load_state_dict(to_llama(ours.state_dict()), strict=False)
    assert (missing, unexpected) == (["embed_tokens.weight"], [])
    x_BLD = torch.randn(2, 20, SMALL.width, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(ours.lm(x_BLD), theirs(inputs_embeds=x_BLD).last_hidden_state, atol=1e-6)
    back = from_llama(theirs.state_dict())
    assert back.keys() == {name for name in ours.state_dict() if name.startswith("lm.")}
    assert all(torch.equal(back[name], ours.state_dict()[name]) for name in back)


def test_llama_weights_become_the_backbone_whoever_wraps_them() -> None:
    theirs, ours = reference_llama(SMALL).double().eval(), network()
    load_backbone(ours, {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()})
    x_BLD = torch.randn(1, 9, SMALL.width, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(ours.lm(x_BLD), theirs(inputs_embeds=x_BLD).last_hidden_state, atol=1e-6)


@pytest.mark.parametrize(("theirs", "ours"), [(True, True), (True, False), (False, True)])
def test_a_released_checkpoint_loads_strictly_with_and_without_a_discriminator(
    theirs: bool, ours: bool, tmp_path: Path
) -> None:
    source = network(rtd=theirs)
    torch.save(released(source.state_dict()), tmp_path / "released.ckpt")
    torch.manual_seed(7)
    target = MaskPredictor(SMALL, ours).double().eval()
    load_released(target, tmp_path / "released.ckpt")
    with torch.no_grad():
        same = [model(**inputs(), masked_BT=torch.ones(2, 24, dtype=torch.bool)) for model in (source, target)]
    assert torch.equal(same[0].logits_MV, same[1].logits_MV)


def test_every_key_that_does_not_fit_is_named(tmp_path: Path) -> None:
    weights = network().state_dict()
    weights["lm.layers.7.mlp.up_proj.weight"] = torch.zeros(2, 2)
    weights["voc_embed.weight"] = weights["voc_embed.weight"][:5]
    del weights["lm.norm.weight"]
    torch.save(released(weights), tmp_path / "released.ckpt")
    with pytest.raises(BadInput, match=r"missing lm\.norm\.weight \[64\]") as refused:
        load_released(network(), tmp_path / "released.ckpt")
    assert "unexpected lm.layers.7.mlp.up_proj.weight [2, 2]" in str(refused.value)
    assert "voc_embed.weight is [5, 32], not [16385, 32]" in str(refused.value)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = network().state_dict()
    torch.save(released(weights, hyper_parameters=Hyper(), callbacks={"a": Path("x")}), tmp_path / "released.ckpt")
    found = read_released(tmp_path / "released.ckpt")
    assert found.keys() == weights.keys()
    assert not (tmp_path / "executed").exists()


def test_another_file_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": 1}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    for name in ("other.ckpt", "text.ckpt"):
        with pytest.raises(BadInput, match="no Lightning checkpoint"):
            read_released(tmp_path / name)
