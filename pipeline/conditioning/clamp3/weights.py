"""CLaMP3's published checkpoint -> both towers.

Conventions: the published file wraps its tensors in ``model``; the symbolic tower in it is left out, and so are lists
of positions that transformers kept among weights until 4.31. Everything else must fit. Sizes are read off the tensors,
the heads' width is the published 64.
"""

from pathlib import Path
from typing import Any

from pipeline.conditioning.clamp3.network import Clamp3, audio_config, text_config
from pipeline.errors import BackendUnavailable
from pipeline.published import State, below, depth, load_strictly, read_state

OUTER = "model"
LEFT_OUT = ("symbolic_model.", "symbolic_proj.")
POSITIONS = ".position_ids"
HEAD = 64  # width of one head, in both towers: 12 of 64


def load(path: Path) -> Clamp3:
    """The towers with the weights of a file; `BackendUnavailable` where they do not fit."""
    state = {name: tensor for name, tensor in read_state(path, OUTER).items() if is_ours(name)}
    text, audio = (sizes_of(below(state, f"{tower}_model."), path) for tower in ("text", "audio"))
    network = Clamp3(text_config(**text), audio_config(**audio))
    load_strictly(network, state, path)
    return network


def sizes_of(tower: State, where: object) -> dict[str, Any]:
    """What of a tower's configuration its tensors tell; `BackendUnavailable` where they are laid out otherwise."""
    try:
        vocabulary, width = tower["embeddings.word_embeddings.weight"].shape
        places = len(tower["embeddings.position_embeddings.weight"])
        inner = len(tower["encoder.layer.0.intermediate.dense.bias"])
    except (KeyError, ValueError, TypeError) as error:
        raise BackendUnavailable(f"{where} has not the layout of CLaMP3's file: {error}") from error
    if width % HEAD:
        raise BackendUnavailable(f"{where} does not fit CLaMP3: its width {width} is no multiple of {HEAD}")
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": depth(tower, "encoder.layer."),
        "num_attention_heads": width // HEAD,
        "intermediate_size": inner,
        "max_position_embeddings": places,
    }


def is_ours(name: str) -> bool:
    """Whether a tensor of the published file belongs to one of our two towers."""
    return not name.startswith(LEFT_OUT) and not name.endswith(POSITIONS)
