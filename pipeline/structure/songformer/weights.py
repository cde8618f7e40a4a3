"""SongFormer's published checkpoint -> its network.

Conventions: the file is the state of an exponential moving average: the network lies under ``ema_model.``, beside a
counter and a flag. Sizes are read off the tensors; the frequencies of the rotary positions, a quarter of a head each,
tell how wide a head is.
"""

from pathlib import Path

from pipeline.errors import BackendUnavailable
from pipeline.published import State, below, load_strictly, read_state
from pipeline.structure.songformer.network import Shape, SongFormer

PREFIX = "ema_model."


def load(path: Path) -> SongFormer:
    """The network with the weights of a file; `BackendUnavailable` where they do not fit."""
    state = below(read_state(path), PREFIX)
    network = SongFormer(shape_of(state, path))
    load_strictly(network, state, path)
    return network


def shape_of(state: State, where: object) -> Shape:
    """The sizes that the tensors have; `BackendUnavailable` where those that tell them are missing or misshapen."""
    try:
        fused, streams = state["mixed_win_downsample.weight"].shape
        data_sets, down = state["dataset_class_prefix.weight"].shape
        width, inner = state["transformer.transformer.layers.0.1.to_out.weight"].shape
        head = 4 * len(state["transformer.transformer.rotary_pos_emb.inv_freq"])
    except (KeyError, ValueError, TypeError) as error:
        raise BackendUnavailable(f"{where} has not the layout of SongFormer's file: {error}") from error
    if head == 0 or inner % head:
        raise BackendUnavailable(f"{where} does not fit SongFormer: {inner} numbers are no whole heads of {head}")
    blocks = {name.split(".")[3] for name in state if name.startswith("transformer.transformer.layers.")}
    return Shape(streams, fused, down, width, len(blocks) // 2, inner // head, head, data_sets)
