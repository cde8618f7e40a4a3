"""MERT's published weights -> its network.

Conventions: the hub's file is either ``model.safetensors`` or ``pytorch_model.bin``, in the names of transformers'
`HubertModel`; the positional convolution's weight norm may carry the names of torch 1. Sizes are read off the tensors,
the heads' width is the published 64.
"""

from pathlib import Path
from typing import Any

from transformers import HubertModel

from pipeline.encoders.mert.network import build, config
from pipeline.errors import BackendUnavailable
from pipeline.published import State, depth, load_strictly, read_state, renamed, weight_norm_names

HEAD = 64  # width of one head: m-a-p/MERT-v1-95M has 12 of them
PLACES = "encoder.pos_conv_embed.conv.parametrizations.weight.original1"


def load(path: Path) -> HubertModel:
    """The network with the weights of a file; `BackendUnavailable` where they do not fit."""
    state = renamed(read_state(path), weight_norm_names)
    network = build(config(**sizes_of(state, path)))
    load_strictly(network, state, path)
    return network


def sizes_of(state: State, where: object) -> dict[str, Any]:
    """What of the configuration the tensors tell; `BackendUnavailable` where they are laid out otherwise."""
    try:
        inner, width = state["encoder.layers.0.feed_forward.intermediate_dense.weight"].shape
        _, group, places = state[PLACES].shape
        ears = [state[f"feature_extractor.conv_layers.{n}.conv.weight"].shape for n in range(len(config().conv_kernel))]
        told = {"conv_dim": [ear[0] for ear in ears], "conv_kernel": [ear[2] for ear in ears]}
    except (KeyError, ValueError, IndexError) as error:
        raise BackendUnavailable(f"{where} has not the layout of MERT's file: {error}") from error
    if width % HEAD or not group:
        raise BackendUnavailable(f"{where} does not fit MERT: its width {width} is no multiple of {HEAD}")
    return told | {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": depth(state, "encoder.layers."),
        "num_attention_heads": width // HEAD,
        "num_conv_pos_embeddings": places,
        "num_conv_pos_embedding_groups": width // group,
    }
