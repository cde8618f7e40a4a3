"""What this machine lacks to run a recipe, and the commands that mend it."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import Literal

from packaging.requirements import Requirement

from flows.recipe import Recipe
from flows.requirements import needs_here, needs_of, on_gpu
from pipeline.assets.store import asset, fault_of, remedy, root
from pipeline.assets.table import Asset, Package

Kind = Literal["weights", "package", "program", "GPU", "GPU memory", "memory", "disk", "version"]
DISTRIBUTION = "backline"
TRAINING_BYTES = 16  # a parameter: float32 weight, gradient and AdamW's two moments
LARGE = 10**8  # parameters; a smaller model trains on a CPU in reasonable time; ours


@dataclass(frozen=True, slots=True)
class Lack:
    """One thing that is missing."""

    kind: Kind
    wanted_by: str  # sections of the recipe
    what: str  # one clause
    gigabytes: float = 0.0  # to be fetched; 0 = nothing, or nobody knows
    licence: str = ""
    mend: str = ""  # the command, or what a person has to do


@dataclass(frozen=True, slots=True)
class Machine:
    """What counts of the machine that is looked at."""

    gpus_gb: tuple[float, ...]  # memory of each GPU, 1e9 bytes
    memory_gb: float
    disk_gb: float  # free where weights are kept


def this_machine() -> Machine:
    """What torch and the operating system say."""
    import torch

    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    place = next(path for path in (root(), *root().parents) if path.exists())
    return Machine(
        gpus_gb=tuple(torch.cuda.get_device_properties(index).total_memory / 1e9 for index in devices),
        memory_gb=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9,
        disk_gb=shutil.disk_usage(place).free / 1e9,
    )


def examine(recipe: Recipe, machine: Machine) -> list[Lack]:
    """Everything that the recipe needs and the machine has not; empty = it runs."""
    lacks = [*_weights(recipe), *_extras(recipe), *_devices(recipe, machine), *_training(recipe, machine)]
    need = sum(lack.gigabytes for lack in lacks)
    if need > machine.disk_gb:
        what = f"{need:.1f} GB of weights are to come, {root()} has {machine.disk_gb:.1f} GB free"
        lacks.append(Lack("disk", "all", what, mend="free some space, or set BACKLINE_ASSETS to another disk's folder"))
    return lacks + list(_versions())


def _weights(recipe: Recipe) -> Iterator[Lack]:
    wanted: dict[str, list[str]] = {}
    for section, needs in needs_of(recipe).items():
        for name in needs.assets:
            wanted.setdefault(name, []).append(section)
    for name, sections in wanted.items():
        one = asset(name)
        if fault := fault_of(one):
            size = 0.0 if isinstance(one.origin, Package) else _to_come(one)
            terms = one.licence + ("" if one.commercial else ", no commercial use")
            yield Lack("weights", ", ".join(sections), fault, size, terms, remedy(one))


def _to_come(one: Asset) -> float:
    """GB on disk once pulled: a pickle lies there twice, as published and converted."""
    pickles = any(file.format == "pickle" for file in one.files)
    return one.gigabytes * (2 if pickles else 1)


def _extras(recipe: Recipe) -> Iterator[Lack]:
    for section, needs in needs_of(recipe).items():
        for extra in needs.extras:
            if find_spec(extra.module) is None:
                what = f"package {extra.module} is not installed"
                yield Lack("package", section, what, licence=extra.licence, mend=extra.install)
        for program in needs.programs:
            if shutil.which(program.name) is None:
                yield Lack("program", section, f"program {program.name} is not on the PATH", mend=program.install)


def _devices(recipe: Recipe, machine: Machine) -> Iterator[Lack]:
    best = max(machine.gpus_gb, default=0.0)
    for section, published in needs_of(recipe).items():
        cuda, needs = on_gpu(getattr(recipe, section)), needs_here(published)
        if cuda and not machine.gpus_gb:
            yield Lack("GPU", section, f"{section}.device is cuda, and torch sees no GPU", mend=_NO_GPU.format(section))
        elif cuda and needs.gpu_memory_gb > best:
            what = f"needs about {needs.gpu_memory_gb:g} GB of GPU memory, the largest GPU has {best:.0f}"
            yield Lack("GPU memory", section, what, mend="run it on a larger GPU, or choose a smaller backend")
        elif needs.cuda and not cuda:
            what = "its backend is too slow without a GPU"
            yield Lack("GPU", section, what, mend=f"--set {section}.device=cuda on a machine with a GPU")
        if not cuda and needs.memory_gb > machine.memory_gb:
            what = f"needs about {needs.memory_gb:g} GB of memory, the machine has {machine.memory_gb:.0f}"
            yield Lack("memory", section, what, mend="run it on a larger machine, or choose a smaller backend")


_NO_GPU = "install torch for your GPU's driver (pytorch.org), or --set {}.device=cpu"


def _training(recipe: Recipe, machine: Machine) -> Iterator[Lack]:
    model = recipe.model
    attention = model.width * model.head_dim * 2 * (model.heads + model.kv_heads)
    parameters = model.layers * (attention + 3 * model.width * model.ffn)
    need = parameters * TRAINING_BYTES / 1e9
    if parameters > LARGE and sum(machine.gpus_gb) < need:
        told = f"{len(machine.gpus_gb)} GPUs with {sum(machine.gpus_gb):.0f} GB" if machine.gpus_gb else "no GPU"
        what = f"training takes at least {need:.0f} GB of GPU memory for weights and optimiser; here: {told}"
        yield Lack("GPU memory", "training", what, mend="train on a GPU machine, or sharded over several (FSDP)")


def _versions() -> Iterator[Lack]:
    """Backline's own dependencies, by the metadata of what is installed."""
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
        python = metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except metadata.PackageNotFoundError:
        return  # run from a checkout that nobody installed: whatever is missing fails at its import
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not Requirement(f"python{python}").specifier.contains(version):
        yield Lack("version", "all", f"Python {version}, not {python}", mend=f"a Python {python} environment")
    for requirement in map(Requirement, wanted):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _installed(requirement.name)
        if not found or not requirement.specifier.contains(found, prereleases=True):
            what = f"{requirement.name} {found or 'is not installed'}, not {requirement.specifier or 'any version'}"
            yield Lack("version", "all", what, mend=f'pip install "{requirement.name}{requirement.specifier}"')


def _installed(name: str) -> str:
    try:
        return metadata.version(re.sub(r"[-_.]+", "-", name))
    except metadata.PackageNotFoundError:
        return ""
