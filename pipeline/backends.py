"""A stage's backend by its name: imported only when chosen, never replaced by another one."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from pipeline.errors import BackendUnavailable


class NamesBackend(Protocol):
    """The settings of a stage that has backends."""

    @property
    def backend(self) -> str: ...


def load_backend(stage: str, table: Mapping[str, str], config: NamesBackend) -> Any:
    """What ``module:factory`` of the chosen backend makes of the config; `BackendUnavailable` if it can't be had."""
    if getattr(config, "device", "cpu") == "cuda":
        _require_gpu(stage, config.backend)
    module, factory = table[config.backend].split(":")
    try:
        make = getattr(import_module(module), factory)
    except ImportError as error:
        raise BackendUnavailable(f"{stage} backend {config.backend!r} can't be imported: {error}") from error
    return make(config)


def _require_gpu(stage: str, backend: str) -> None:
    import torch

    if not torch.cuda.is_available():
        raise BackendUnavailable(
            f"{stage} backend {backend!r} is to run on a GPU, and torch sees none; install torch for your GPU's driver "
            f"(pytorch.org), or set {stage}.device to cpu"
        )
