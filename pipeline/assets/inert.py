"""Published pickles -> safetensors, once, and nothing in them is run.

Conventions: first torch's own restricted loader; where a file names classes that it does not know (fairseq, Lightning,
omegaconf), an unpickler that knows tensors and plain containers and makes inert objects of all else. Keys of nested
containers are joined with dots; what is no tensor is left out.
"""

import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from pipeline.assets.download import land, part_of
from pipeline.errors import BackendUnavailable
from pipeline.published import UNREADABLE, reason


def convert(source: Path, outer: str, target: Path) -> None:
    """Write the tensors that lie below `outer` (keys joined with dots) of a pickle as safetensors.

    `BackendUnavailable` where the file is no whole pickle of tensors, or has nothing there; then nothing is written.
    """
    name = source.name.removesuffix(".part")
    try:
        content = read(source)
    except UNREADABLE as error:
        raise BackendUnavailable(f"{name} is no whole file of torch tensors ({reason(error)})") from error
    for key in outer.split(".") if outer else ():
        if not isinstance(content, Mapping) or key not in content:
            raise BackendUnavailable(f"{name} has no {outer!r} in it: it is not the file that was published")
        content = content[key]
    # Clones: tensors that share memory can't be written, and a slice would keep all of its storage alive.
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in _leaves(content, "")}
    if not tensors:
        raise BackendUnavailable(f"{name} has no tensors below {outer or 'its top'!r}")
    try:
        save_file(tensors, part_of(target))
    except SafetensorError as error:  # of a full disk too
        part_of(target).unlink(missing_ok=True)
        raise BackendUnavailable(f"{target} can't be written ({reason(error)}); free some space") from error
    land(part_of(target), target)


def read(source: Path) -> Any:
    """What a torch pickle holds, objects of other packages inert."""
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        return torch.load(source, map_location="cpu", weights_only=False, pickle_module=inert)


def _leaves(content: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield path, content
        return
    if isinstance(content, Mapping):
        items = [(str(key), value) for key, value in content.items()]
    elif isinstance(content, (list, tuple)):
        items = [(str(index), value) for index, value in enumerate(content)]
    else:
        return
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}" if path else key)


class _Ignored:
    """Stands for an object that is not read: takes any arguments and any state, and does nothing."""

    def __init__(self, *args: object, **options: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __call__(self, *args: object, **options: object) -> "_Ignored":
        return self

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None: ...

    def extend(self, items: object) -> None: ...

    def update(self, items: object) -> None: ...

    def add(self, item: object) -> None: ...


class _Unpickler(pickle.Unpickler):
    """Knows tensors and plain containers; of all else it runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return getattr(torch._utils, name)
        if module == "torch" and name.endswith("Storage"):
            return getattr(torch, name)
        return _Ignored


def _load(file: BinaryIO, **options: Any) -> Any:
    """Of the legacy format's head: a file may begin with any pickle, so this too runs nothing."""
    return _Unpickler(file, **options).load()


inert = ModuleType("inert")  # what `torch.load` takes in pickle's place
inert.Unpickler = _Unpickler  # type: ignore[attr-defined]
inert.UnpicklingError = pickle.UnpicklingError  # type: ignore[attr-defined]
inert.load = _load  # type: ignore[attr-defined]
