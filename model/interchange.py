"""The mask predictor's weights in others' files: Hugging Face `LlamaModel`, and the authors' Lightning checkpoint.

Conventions: weights are flat mappings from parameter name to tensor. Ours carry the backbone under ``lm.``, named as in
`LlamaModel`; nothing is transposed or split (rotate-half rotary positions on both sides). The released checkpoint is
a pickle: it is read by an unpickler that knows tensors and plain containers, and makes inert objects of all else.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from model.config import ModelConfig
from model.network import Conditioned, MaskPredictor
from pipeline.assets.inert import inert
from pipeline.errors import BadInput
from pipeline.published import depth

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
    """Put the authors' checkpoint into a network of its shape; `BadInput` names every key that does not fit."""
    network.load_state_dict(fitting(network, read_released(path), str(path)), strict=False)


def fitting(network: MaskPredictor, found: Weights, where: str) -> dict[str, Tensor]:
    """Weights that fit a network (which may be on the meta device) name by name; `BadInput` names what does not.

    A discriminator that only one side has is left out (the released inference does the same).
    """
    ours = network.state_dict()
    if not any(name.startswith(OPTIONAL) for name in ours):
        found = {name: tensor for name, tensor in found.items() if not name.startswith(OPTIONAL)}
    elif not any(name.startswith(OPTIONAL) for name in found):
        ours = {name: tensor for name, tensor in ours.items() if not name.startswith(OPTIONAL)}
    _require_match(ours, found, where)
    return dict(found)


def read_released(path: Path) -> dict[str, Tensor]:
    """The network's part of a Lightning checkpoint, by our names: of the pickle, or of what pulling made of it."""
    return _ours_of(_converted(path) if path.suffix == ".safetensors" else _pickled(path))


def released_shape(weights: Weights, config: ModelConfig) -> ModelConfig:
    """The settings with the sizes that weights have; a head's width is the settings', which no tensor tells.

    `BadInput` where they are no mask predictor's.
    """
    try:
        ffn, width = weights["lm.layers.0.mlp.up_proj.weight"].shape
        heads, kv_heads = (len(weights[f"lm.layers.0.self_attn.{name}_proj.weight"]) for name in ("q", "k"))
        prefix = weights["clamp_proj.weight"].shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise BadInput(f"these weights have not the layout of LaDA-Band's: no {error}", "released") from error
    sizes = {
        "layers": depth(weights, "lm.layers."),
        "width": width,
        "heads": heads // config.head_dim,
        "kv_heads": kv_heads // config.head_dim,
        "ffn": ffn,
        "prefix_width": prefix,
    }
    return ModelConfig.model_validate(config.model_dump() | sizes)


def _converted(path: Path) -> dict[str, Tensor]:
    """The tensors that belong to the network; the other systems in the file, twice its size, are not read."""
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if _is_ours(name)]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} can't be read as safetensors ({error})", "weights") from error


def _ours_of(state: Weights) -> dict[str, Tensor]:
    return {name.removeprefix(RELEASED): tensor for name, tensor in state.items() if _is_ours(name)}


def _is_ours(name: str) -> bool:
    bare = name.removeprefix(RELEASED)
    return name.startswith(RELEASED) and bare != UNUSED and not bare.startswith(BESIDE)


def _pickled(path: Path) -> Weights:
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert)
        return dict(content["state_dict"])
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError, EOFError) as error:
        raise BadInput(
            f"{path} is no Lightning checkpoint ({error}); give the released .ckpt file", "released"
        ) from error


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
