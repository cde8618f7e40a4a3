"""CLaMP3's published checkpoint -> both towers.

Conventions: the published file wraps its tensors in ``model``; the symbolic tower in it is left out, and so are lists
of positions that transformers kept among weights until 4.31. Everything else must fit.
"""

from pathlib import Path

from pipeline.conditioning.clamp3.network import Clamp3
from pipeline.published import load_strictly, read_state

OUTER = "model"
LEFT_OUT = ("symbolic_model.", "symbolic_proj.")
POSITIONS = ".position_ids"


def load(path: Path) -> Clamp3:
    """The towers with the weights of a file; `BackendUnavailable` where they do not fit."""
    network = Clamp3()
    state = read_state(path, OUTER)
    load_strictly(network, {name: tensor for name, tensor in state.items() if is_ours(name)}, path)
    return network


def is_ours(name: str) -> bool:
    """Whether a tensor of the published file belongs to one of our two towers."""
    return not name.startswith(LEFT_OUT) and not name.endswith(POSITIONS)
