"""SongFormer's published checkpoint -> its network.

Conventions: the file is the state of an exponential moving average: the network lies under ``ema_model.``, beside a
counter and a flag.
"""

from pathlib import Path

from pipeline.published import below, load_strictly, read_state
from pipeline.structure.songformer.network import SongFormer

PREFIX = "ema_model."


def load(path: Path) -> SongFormer:
    """The network with the weights of a file; `BackendUnavailable` where they do not fit."""
    network = SongFormer()
    load_strictly(network, below(read_state(path), PREFIX), path)
    return network
