"""What a recipe's backends need, stage by stage: read by `backline doctor`, `assets pull --recipe` and placement."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from flows.recipe import Recipe
from pipeline.annotation import stage as annotation
from pipeline.assets.needs import SHIPPED, Needs
from pipeline.assets.store import asset, fault_of, held, landed_files, published_fingerprint, pulled, remedy
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

logger = logging.getLogger(__name__)
ABSENT = "absent"  # in the keys, where the hash is not known
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

    An asset that nobody knows the hash of has none here: its stages' keys are then those of no build, and a build that
    needs them does not begin (`require_weights`).
    """
    return " ".join(_hash_of(name, recipe) or ABSENT for name in needs_of(recipe)[section].assets)


def pinned(recipe: Recipe) -> Recipe:
    """The recipe with the hashes of all its weights that are known here, which keys follow from wherever it goes."""
    known = {name: _hash_of(name, recipe) for name in assets_of(recipe)}
    return recipe.model_copy(update={"weights": {**recipe.weights, **{k: v for k, v in known.items() if v}}})


def require_weights(sections: Iterable[str], recipe: Recipe) -> None:
    """`BackendUnavailable` where nobody knows which weights these sections mean, or other ones are here.

    Where they are known and not here, the log says so now: what is left to do of their stages would fail much later.
    """
    require_pinned(recipe)
    needs = needs_of(recipe)
    names = dict.fromkeys(name for section in sections if section in needs for name in needs[section].assets)
    if unknown := [name for name in names if not _hash_of(name, recipe)]:
        damaged = next((fault_of(one) for one in map(asset, unknown) if pulled(one)), "")
        raise BackendUnavailable(
            f"weights {', '.join(unknown)} are not on this machine"
            f"{f' as they were pulled ({damaged})' if damaged else ''}, and recipe {recipe.name!r} has no pin of them, "
            f"so nobody can tell what was done with them; {remedy(asset(unknown[0]))} (and so on), or add to the "
            "recipe what `backline assets pin` prints on a machine that has them"
        )
    for one in map(asset, names):
        if fault := fault_of(one):
            logger.warning("%s, so the stages that load it can't work here; %s", fault, remedy(one))


def require_pinned(recipe: Recipe) -> None:
    """`BackendUnavailable` where this machine has other weights than the recipe pins."""
    for name in assets_of(recipe) if recipe.weights else ():
        pin, here = recipe.weights.get(name, ""), _hash_here(name)
        if pin and here and pin != here:
            raise BackendUnavailable(
                f"weights {name} on this machine have SHA-256 {here[:12]}…, recipe {recipe.name!r} pins {pin[:12]}…; "
                f"pull those (--mirror a store that has them), or take {name} out of the recipe's weights"
            )


def _hash_of(name: str, recipe: Recipe) -> str:
    """The pin's, else that of what is here, else the published one; empty = nobody knows it."""
    return recipe.weights.get(name, "") or _hash_here(name) or published_fingerprint(asset(name))


def _hash_here(name: str) -> str:
    try:
        return held(name).weights_sha256
    except BackendUnavailable:
        return ""


def on_gpu(section: Config | None) -> bool:
    """Whether a section of a recipe asks for a GPU."""
    return getattr(section, "device", "cpu") == "cuda"
