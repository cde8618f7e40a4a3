"""MusicFM on the Million Song Dataset: MuQ's network with weights and normalisation of its own.

Conventions: audio is mono at 24 kHz; hidden states ``[B, T, 1024]`` at 25 Hz are numbered as MuQ's. The published file
is a Lightning checkpoint (``state_dict``, then ``model.`` before every name) with a JSON of means and deviations beside
it. What it has for its training alone (a random quantiser, a class token, the head) is left out. In float32: bfloat16
ends 15 dB below how far the states change over a sound (random weights, tests/pipeline/test_precision.py).
"""

import json
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from pipeline.encoders.muq.mel import log_mel
from pipeline.encoders.muq.network import MuQ
from pipeline.encoders.muq.weights import assemble
from pipeline.errors import BackendUnavailable
from pipeline.published import below, read_state

LAYERS, OUTER, PREFIX = 12, "state_dict", "model."
QUANTIZER = "quantizer_melspec_2048_0."
FEATURE = "melspec_2048"  # of the table of means and deviations


class MusicFM(nn.Module):
    """Audio at 24 kHz -> hidden states."""

    def __init__(self, network: MuQ, mean: float, deviation: float) -> None:
        super().__init__()
        self.network, self.mean, self.deviation = network, mean, deviation

    def forward(self, audio: Tensor, last: int = LAYERS) -> tuple[Tensor, ...]:
        """``[B, samples]`` -> states 0 to `last`, each ``[B, T, width]``; later layers don't run."""
        return self.network.from_front(self.front(audio), last)

    def front(self, audio: Tensor) -> Tensor:
        """State 0, ``[B, T, width]``, of ``[B, samples]``."""
        mel = (log_mel(audio) - self.mean) / self.deviation
        return cast(Tensor, self.network.conv(mel.to(self.network.conv.linear.weight.dtype)))


def load(weights: Path, statistics: Path) -> MusicFM:
    """The network of the published files; `BackendUnavailable` where one is missing or does not fit."""
    state = below(read_state(weights, OUTER), PREFIX)
    network = assemble({name: tensor for name, tensor in state.items() if not name.startswith(QUANTIZER)}, weights)
    try:
        told = json.loads(statistics.read_text(encoding="utf-8"))
        mean, deviation = float(told[f"{FEATURE}_mean"]), float(told[f"{FEATURE}_std"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendUnavailable(f"{statistics} has no mean and deviation of {FEATURE}: {error}") from error
    return MusicFM(network, mean, deviation)
