"""MuQ's published files -> its network.

Conventions: one layout in three wrappings: the hub's ``model.safetensors`` (``model.`` before every name), MuCodec's
``muq.pt`` (the same below the pickle's key ``model``, plus the front end's own buffers), ``muencoder.model.`` inside
``mucodec.pt``. Sizes are read off the tensors, the heads' width is the published 64.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from pipeline.encoders.muq.network import HEAD, MuQ, MuQShape
from pipeline.errors import BackendUnavailable
from pipeline.published import below, load_strictly, read_state

OUTER = "model."
# What the files hold for MuQ's training, and tables that we compute.
UNUSED = (
    "cls_token",
    "linear.",
    "rvq.",
    "quantizer_melspec_2048.",
    "mask_emb",
    "recon_proj.",
    "preprocessor_melspec_2048.",
    "conformer.pos_conv_embed.",
    "conformer.embed_positions.",
)


def load(path: Path) -> MuQ:
    """The network of a safetensors file, in evaluation mode, float32; `BackendUnavailable` where it does not fit."""
    return assemble(below(read_state(path), OUTER), path)


def assemble(state: Mapping[str, Tensor], where: object) -> MuQ:
    """The network of tensors named as published, without the outer ``model.``."""
    used = {name: tensor for name, tensor in state.items() if not name.startswith(UNUSED)}
    with torch.device("meta"):
        network = MuQ(shape_of(used, where))
    network.to_empty(device="cpu")
    load_strictly(network, used, where)
    return network.eval().requires_grad_(False)


def shape_of(state: Mapping[str, Tensor], where: object) -> MuQShape:
    """The sizes that the tensors have; `BackendUnavailable` where those that tell them are missing or misshapen."""
    try:
        width, inner = state["conformer.layers.0.ffn1.output_dense.weight"].shape
        kernel = state["conformer.layers.0.conv_module.depthwise_conv.weight"].shape[2]
        channels = state["conv.conv.0.conv1.bias"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise BackendUnavailable(f"{where} has not the layout of a published MuQ file: {error}") from error
    if width % HEAD or width == 0:
        raise BackendUnavailable(f"{where} does not fit MuQ: its width {width} is no multiple of {HEAD}")
    layers = {name.split(".")[2] for name in state if name.startswith("conformer.layers.")}
    return MuQShape(width, len(layers), width // HEAD, inner, kernel, channels)
