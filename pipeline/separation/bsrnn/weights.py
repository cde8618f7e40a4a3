"""A vocal checkpoint of the band-split RNN -> our network.

Conventions: the public checkpoint's code has no licence, so its layout was not read: names follow the paper's three
modules (``bandsplit``, ``bandsequence``, ``maskest``) as its users describe them, below ``state_dict`` and ``model.``.
Sizes are read off the tensors; a file that is laid out otherwise is refused with the names that do not fit.
"""

from pathlib import Path

from pipeline.errors import BackendUnavailable
from pipeline.published import State, below, load_strictly, read_state
from pipeline.separation.bsrnn.network import BandSplitRNN, Shape

PREFIX = "model."


def load(path: Path, *outer: str) -> BandSplitRNN:
    """The network with the weights of a file; `BackendUnavailable` where they do not fit."""
    state = below(read_state(path, *outer), PREFIX)
    network = BandSplitRNN(shape_of(state, path))
    load_strictly(network, state, path)
    return network


def shape_of(state: State, where: object) -> Shape:
    """The sizes that the tensors have."""
    try:
        norm = state["bandsplit.layernorms.0.weight"]
        mask, width = state["maskest.mlp.0.0.weight"].shape
        hidden = state["bandsequence.bsrnn.0.0.rnn.weight_hh_l0"].shape[1]
    except (KeyError, ValueError) as error:
        raise BackendUnavailable(f"{where} has not the layout of a band-split RNN that we know: {error}") from error
    layers = {name.split(".")[2] for name in state if name.startswith("bandsequence.bsrnn.")}
    return Shape(width, hidden, len(layers), mask, frames=norm.shape[1] if norm.dim() == 2 else 0)
