"""Tensors that may lie in shards on several processes (FSDP2), whole for a checkpoint or a while, and back.

Conventions: a *whole* tensor is a plain one on the CPU, so that a checkpoint knows nothing of processes. Functions that
gather are collective: every process calls them, in the same order.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The same, nested as it is, every tensor whole."""
    return {name: _whole(value) for name, value in tensors.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, DTensor):
        return value.full_tensor().detach().cpu()
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return whole(value)
    return value


def place(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor where and as `like` lies; every process gives the same."""
    if isinstance(like, DTensor):
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.to(like.device)


@contextmanager
def at_hand(module: nn.Module) -> Iterator[None]:
    """The module's own weights whole, so that its methods can be called by themselves.

    Parts that are shards of their own (layers) gather theirs whenever they are called: all processes make the same
    calls while inside.
    """
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def load_optimizer(optimizer: Any, whole_state: Mapping[str, Any]) -> None:
    """A whole state (`whole(optimizer.state_dict())`) into an optimiser of the same weights."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        index: {
            name: place(value, parameters[index]) if isinstance(value, Tensor) and value.dim() else value
            for name, value in kept.items()
        }
        for index, kept in whole_state["state"].items()
    }
    optimizer.load_state_dict({**whole_state, "state": state})


def scalar(value: Any) -> float:
    """A norm, wherever it lies."""
    return float(value.full_tensor() if isinstance(value, DTensor) else value)
