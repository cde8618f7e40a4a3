"""Networks of transformers from a pulled folder: nothing is fetched, and no key may be missing, left over or misshapen.

Conventions: transformers itself fills a missing key with random numbers and a warning; here it is an error.
"""

import logging as stdlib
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from transformers.utils import logging

from pipeline.assets.store import Held
from pipeline.errors import BackendUnavailable
from pipeline.published import misfits, reason

T = TypeVar("T")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_network(factory: Any, weights: Held, precision: Literal["float32", "bfloat16", "float16"], device: str) -> Any:
    """The network, ready for inference; `BackendUnavailable` names the keys that do not fit."""

    def load() -> Any:
        return factory.from_pretrained(
            weights.folder, dtype=DTYPES[precision], local_files_only=True, use_safetensors=True,
            output_loading_info=True, ignore_mismatched_sizes=True,  # named below; its own report is a page long
        )  # fmt: skip

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # one for each worker would be all that a terminal shows
    stdlib.getLogger("transformers.modeling_utils").setLevel(stdlib.ERROR)
    network, told = _loaded(weights, load)
    wrong = {
        "missing": sorted(told["missing_keys"]),
        "unexpected": sorted(told["unexpected_keys"]),
        "of another shape": sorted(f"{name} {[*came]} (not {[*ours]})" for name, came, ours in told["mismatched_keys"]),
    }
    if listed := misfits(wrong):
        raise BackendUnavailable(f"{weights.asset.what} ({weights.asset.name}) does not fit its network: {listed}")
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable(f"{weights.asset.what} is to run on a GPU and torch sees none; set device to cpu")
    return network.eval().to(device)


def load_processor(factory: Any, weights: Held) -> Any:
    """Its tokenizer and features."""
    return _loaded(weights, lambda: factory.from_pretrained(weights.folder, local_files_only=True))


def _loaded(weights: Held, load: Callable[[], T]) -> T:
    try:
        return load()
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendUnavailable(
            f"{weights.asset.what} can't be loaded from {weights.folder}: {reason(error, 300)}; backline assets verify "
            f"{weights.asset.name} tells whether its files are whole"
        ) from error
