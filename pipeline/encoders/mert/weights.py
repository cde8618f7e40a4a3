"""MERT's published weights -> its network.

Conventions: the hub's file is either ``model.safetensors`` or ``pytorch_model.bin``, in the names of transformers'
`HubertModel`; the positional convolution's weight norm may carry the names of torch 1.
"""

from pathlib import Path

from transformers import HubertModel

from pipeline.encoders.mert.network import build
from pipeline.published import load_strictly, read_state, renamed, weight_norm_names


def load(path: Path) -> HubertModel:
    """The network with the weights of a file; `BackendUnavailable` where they do not fit."""
    network = build()
    load_strictly(network, renamed(read_state(path), weight_norm_names), path)
    return network
