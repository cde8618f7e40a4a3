"""The mask predictor's weights in others' files: Hugging Face `LlamaModel`, and the authors' Lightning checkpoint.

Conventions: weights are flat mappings from parameter name to tensor. Ours carry the backbone under ``lm.``, named as in
`LlamaModel`; nothing is transposed or split (rotate-half rotary positions on both sides). The released checkpoint is
a pickle: it is read by an unpickler that knows tensors and plain containers, and makes inert objects of all else.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.network import Conditioned, MaskPredictor
from pipeline.assets.inert import inert
from pipeline.errors import BadInput

Weights = Mapping[str, Tensor]
BACKBONE = "lm."
RELEASED = "model."  # prefix of the network inside the LightningModule; released code
UNUSED = "lm.embed_tokens.weight"  # a single row that Llama insists on and nobody reads; released code
BESIDE = ("clamp3.", "codec_model.", "codec_vae.", "codec_stft.")  # other systems in the same file; released code
OPTIONAL = "rtd_head."  # built in training alone


def to_llama(weights: Weights) -> dict[str, Tensor]:
    """The backbone as `transformers.LlamaModel` names it, without the token embedding that it would not use."""
    return {name[len(BACKBONE) :]: tensor for name, tensor in weights.items() if name.startswith(BACKBONE)}


def from_llama(weights: Weights) -> dict[str, Tensor]:
    """The backbone of a `LlamaModel` (or of a `LlamaForCausalLM`, whose names begin with ``model.``) as we name it."""
    bare = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    return {BACKBONE + name: t for name, t in bare.items() if name.startswith(("layers.", "norm."))}


def load_backbone(network: Conditioned, weights: Weights) -> None:
    """Put a `LlamaModel`'s weights under the network; `BadInput` names every key that does not fit."""
    ours = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(BACKBONE)}
    found = from_llama(weights)
    _require_match(ours, found, "these Llama weights")
    network.load_state_dict(found, strict=False)


def read_llama(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of all such files in a folder; `BadInput` where there is none to read."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"{path} holds no safetensors file; give a LlamaModel's folder or file", "weights")
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            found |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{file} can't be read as safetensors ({error})", "weights") from error
    return found


def load_released(network: MaskPredictor, path: Path) -> None:
    """Put the authors' checkpoint into a network of its shape, strictly; `BadInput` names every key that does not fit.

    A discriminator that only one side has is left out (the released inference does the same).
    """
    found = read_released(path)
    ours = network.state_dict()
    if not any(name.startswith(OPTIONAL) for name in ours):
        found = {name: tensor for name, tensor in found.items() if not name.startswith(OPTIONAL)}
    elif not any(name.startswith(OPTIONAL) for name in found):
        ours = {name: tensor for name, tensor in ours.items() if not name.startswith(OPTIONAL)}
    _require_match(ours, found, str(path))
    network.load_state_dict(found, strict=False)


def read_released(path: Path) -> dict[str, Tensor]:
    """The network's part of a Lightning checkpoint, by our names."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert)
        state = content["state_dict"]
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError) as error:
        raise BadInput(
            f"{path} is no Lightning checkpoint ({error}); give the released .ckpt file", "released"
        ) from error
    named = {name.removeprefix(RELEASED): tensor for name, tensor in state.items() if name.startswith(RELEASED)}
    return {name: tensor for name, tensor in named.items() if name != UNUSED and not name.startswith(BESIDE)}


def _require_match(ours: Weights, found: Weights, where: str) -> None:
    wrong = [f"missing {name} {list(ours[name].shape)}" for name in ours if name not in found]
    wrong += [f"unexpected {name} {list(found[name].shape)}" for name in found if name not in ours]
    wrong += [
        f"{name} is {list(found[name].shape)}, not {list(ours[name].shape)}"
        for name in ours
        if name in found and found[name].shape != ours[name].shape
    ]
    if wrong:
        raise BadInput(
            f"{where} do not fit the model: {'; '.join(wrong)}; choose the shape it was made with", "weights"
        )
