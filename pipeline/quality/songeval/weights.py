"""SongEval's published file -> its head: safetensors, the parameters' own names at the top."""

from pathlib import Path

import torch

from pipeline.errors import BackendUnavailable
from pipeline.published import load_strictly, read_state
from pipeline.quality.songeval.network import SongEval


def load(path: Path) -> SongEval:
    """The head in evaluation mode, float32; `BackendUnavailable` where the file does not fit."""
    state = read_state(path)
    try:
        inner, width = state["ffd.0.weight"].shape
    except (KeyError, ValueError) as error:
        raise BackendUnavailable(f"{path} has not the layout of SongEval's file: {error}") from error
    layers = len({name.split(".")[1] for name in state if name.startswith("attn.")})
    with torch.device("meta"):
        network = SongEval(width, inner, layers)
    network.to_empty(device="cpu")
    load_strictly(network, state, path)
    return network.eval().requires_grad_(False)
