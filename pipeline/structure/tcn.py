"""Structure by small networks of our own: beats, form and key learned on songs that Backline rendered.

Conventions: as in `stage`; the weights are one safetensors file (`weights/`, or `structure.weights`), stored in half
precision. Sections begin on beats, except the first (0); the last ends with the song.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pipeline.errors import BackendUnavailable, BadInput
from pipeline.structure import grid, sections, tonality, tracker
from pipeline.structure.networks import BeatNetwork, FormNetwork
from pipeline.structure.spectra import Spectra, analyse
from pipeline.structure.stage import Structure, StructureConfig, weights_path
from pipeline.types import Audio, Span

Floats = NDArray[np.float64]


class StructureNetworks:
    """The embedded backend."""

    name, backend = "structure", "tcn"

    def __init__(self, config: StructureConfig) -> None:
        self.config = config
        path = weights_path(config)
        tensors, card = _read(path)
        self.weights_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self.licence = card.get("licence", "unknown")
        self.beat = BeatNetwork()
        self.form = FormNetwork(grid.COLUMNS)
        for name, network in (("beat", self.beat), ("form", self.form)):
            _load(network, name, tensors)
        self.key = tensors["key.weights"].double().numpy(), tensors["key.bias"].double().numpy()
        self.transitions = tensors["transitions"].double().numpy()

    def __call__(self, audio: Audio, vocal_active: Sequence[Span] | None = None) -> Structure:
        """Analyse one song; `BadInput` (too_short) under two seconds. Same audio, same answer."""
        if audio.duration < 2:
            raise BadInput(f"structure needs 2 s of audio, got {audio.duration:.2f} s", reason="too_short")
        spectra = analyse(audio)
        metre = tracker.track(*activations(self.beat, spectra), self.config.metres)
        laid = grid.lay(spectra, metre.beats, metre.downbeats, vocal_active)
        divided = sections.divide(opinion(self.form, laid), self.transitions)
        return Structure(
            sections=sections.name(laid, divided),
            beats=tuple(float(t) for t in metre.beats),
            downbeats=tuple(float(t) for t in metre.beats[metre.downbeats]),
            tempo=tracker.tempo(metre.beats),
            key=tonality.find_key(tonality.usage(spectra.pitch), *self.key),
        )


@torch.inference_mode()
def activations(network: BeatNetwork, spectra: Spectra) -> tuple[Floats, Floats]:
    """Probabilities of beats and of downbeats per frame, each ``[T]``."""
    both = torch.sigmoid(network(torch.from_numpy(spectra.mel.T.copy())[None]))[0].double().numpy()
    return both[0], both[1]


@torch.inference_mode()
def opinion(network: FormNetwork, laid: grid.Grid) -> sections.Opinion:
    """What the form network makes of a song's beats."""
    columns, likeness = grid.inputs(laid)
    boundary, labels = network(torch.from_numpy(columns.T.copy())[None], torch.from_numpy(likeness)[None])
    return sections.Opinion(
        boundary[0].double().numpy(), torch.log_softmax(labels[0].double(), dim=0).T.contiguous().numpy()
    )


def build(config: StructureConfig) -> StructureNetworks:
    return StructureNetworks(config)


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise BackendUnavailable(
            f"structure weights {path} can't be read: {error}; set structure.weights, or train them with "
            "backline structure train"
        ) from error


def _load(network: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    prefix = f"{name}."
    network.load_state_dict({key[len(prefix) :]: t.float() for key, t in tensors.items() if key.startswith(prefix)})
    network.eval()
