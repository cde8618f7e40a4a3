"""Weights as others publish them: files read without running anything in them, and put into a network strictly.

Conventions: a state is a flat mapping from parameter name to tensor. A file is safetensors by its name, else one of
torch's pickles, read with ``weights_only``: tensors and plain containers, nothing else.
"""

import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import BackendUnavailable

State = Mapping[str, Tensor]
SHOWN = 6  # names in a message; ours
UNREADABLE = (  # what torch and pickle raise over a file that is cut short, changed or another kind of file
    pickle.UnpicklingError, struct.error, EOFError, OSError, RuntimeError, ValueError, TypeError, AttributeError,
    ImportError, LookupError, ArithmeticError, AssertionError, MemoryError,
)  # fmt: skip


def read_state(path: Path, *outer: str) -> dict[str, Tensor]:
    """The tensors of a file; `outer` are the keys that a pickle wraps them in, from the outside.

    `BackendUnavailable` where the file is missing, cut short, or holds something else.
    """
    if not path.is_file():
        raise BackendUnavailable(f"{path} is missing; `backline assets pull` fetches weights")
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except (SafetensorError, *UNREADABLE) as error:
        raise BackendUnavailable(f"{path} can't be read as weights ({reason(error)}); fetch it again") from error
    try:
        for key in outer if path.suffix != ".safetensors" else ():
            content = content[key]
        return {name: tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    except (KeyError, TypeError, AttributeError) as error:
        raise BackendUnavailable(
            f"{path} has not the layout of the published file: no {' > '.join(outer) or 'tensors'} in it"
        ) from error


def reason(error: BaseException, longest: int = 200) -> str:
    """What an exception says, in one line that is never empty."""
    return " ".join(str(error).split())[:longest] or type(error).__name__


def read_below(path: Path, *prefixes: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file whose names begin with one of some prefixes; the others are not read.

    `BackendUnavailable` where the file is missing or cut short.
    """
    if not path.is_file():
        raise BackendUnavailable(f"{path} is missing; `backline assets pull` fetches weights")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefixes)}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BackendUnavailable(f"{path} can't be read as weights ({reason(error)}); fetch it again") from error


def load_strictly(network: nn.Module, state: State, where: object) -> None:
    """Put a state into a network; `BackendUnavailable` counts and names what is missing, unexpected or misshapen."""
    ours = network.state_dict()
    wrong = {
        "missing": [name for name in ours if name not in state],
        "unexpected": [name for name in state if name not in ours],
        "of another shape": [
            f"{name} {list(state[name].shape)} (not {list(ours[name].shape)})"
            for name in ours
            if name in state and state[name].shape != ours[name].shape
        ],
    }
    if told := misfits(wrong):
        raise BackendUnavailable(f"{where} does not fit {type(network).__name__}: {told}")
    network.load_state_dict(state)


def misfits(wrong: Mapping[str, Sequence[str]]) -> str:
    """Names by what is wrong with them, counted, the first ones named; empty where nothing is."""
    return "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in wrong.items() if names)


def below(state: State, prefix: str) -> dict[str, Tensor]:
    """What lies under a prefix, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}


def renamed(state: State, rename: Callable[[str], str]) -> dict[str, Tensor]:
    """The same tensors by other names."""
    return {rename(name): tensor for name, tensor in state.items()}


def depth(state: State, prefix: str) -> int:
    """How many layers lie under a prefix: the different numbers that follow it."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def weight_norm_names(name: str) -> str:
    """The two halves of a weight norm as torch names them today (``weight_g``, ``weight_v`` before 2.0)."""
    halves = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
    for old, new in halves.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _unpickled(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
