"""What a recipe's backends need, stage by stage: read by `backline doctor`, `assets pull --recipe` and placement."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from flows.recipe import Recipe
from pipeline.annotation import stage as annotation
from pipeline.assets.needs import SHIPPED, Needs
from pipeline.assets.store import asset, fault_of, held, landed_files
from pipeline.codec import codec
from pipeline.conditioning import conditioner
from pipeline.config import Config
from pipeline.errors import BackendUnavailable
from pipeline.quality import stage as quality
from pipeline.separation import stage as separation
from pipeline.structure import stage as structure

NEEDS: Mapping[str, Callable[[Recipe], Needs]] = {  # by section of the recipe, in the order of the build
    "detection": lambda recipe: SHIPPED,
    "quality": lambda recipe: quality.needs(recipe.quality),
    "separation": lambda recipe: separation.needs(recipe.separation),
    "structure": lambda recipe: structure.needs(recipe.structure),
    "annotation": lambda recipe: annotation.needs(recipe.annotation),
    "codec": lambda recipe: codec.needs(recipe.codec),
    "conditioning": lambda recipe: conditioner.needs(recipe.conditioning),
    "model": lambda recipe: Needs((recipe.released,)) if recipe.released else SHIPPED,
}

SMALL = 0.05  # of the published weights' bytes: so small a model works without a GPU; ours


def needs_of(recipe: Recipe) -> dict[str, Needs]:
    """Section -> what a worker of its backend needs; nothing where stand-ins do the work."""
    return {name: SHIPPED if recipe.rehearsal else needs(recipe) for name, needs in NEEDS.items()}


def needs_here(needs: Needs) -> Needs:
    """The same of the weights that are on this machine: smaller ones than were published need as much less.

    The published ones' where any is missing, or where nobody knows how large they are.
    """
    wanted = [asset(name) for name in needs.assets]
    published = sum(one.gigabytes for one in wanted)
    if not published or any(fault_of(one) for one in wanted):
        return needs
    bytes_here = sum(landed_files(one)[file.path].size for one in wanted for file in one.files)
    share = min(1.0, bytes_here / (published * 1e9))
    return replace(
        needs,
        cuda=needs.cuda and share > SMALL,
        gpu_memory_gb=needs.gpu_memory_gb * share,
        memory_gb=needs.memory_gb * share,
    )


def assets_of(recipe: Recipe) -> tuple[str, ...]:
    """Every asset that a recipe's backends load, once."""
    return tuple(dict.fromkeys(name for needs in needs_of(recipe).values() for name in needs.assets))


def weights_of(section: str, recipe: Recipe) -> str:
    """The hashes of the assets that a section's backend loads, joined: part of its stages' keys.

    An asset that is not on this machine has no hash here: its stages' keys are then those of no build.
    """
    hashes = []
    for name in needs_of(recipe)[section].assets:
        try:
            hashes.append(held(name).weights_sha256)
        except BackendUnavailable:
            hashes.append("absent")
    return " ".join(hashes)


def on_gpu(section: Config | None) -> bool:
    """Whether a section of a recipe asks for a GPU."""
    return getattr(section, "device", "cpu") == "cuda"
