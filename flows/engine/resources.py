"""What a worker of a stage holds on a cluster: the recipe's word, else what its settings say.

Conventions: a stage whose section says ``device: cuda`` gets a GPU, or a share of one where its network is small; every
other worker gets one CPU, since a worker computes on one thread.
"""

from flows.recipe import Recipe, Resources
from flows.stages.graph import NODES, Node, worker_of
from pipeline.config import Config

GPU_SHARE = {"spleeter": 0.25}  # backend -> part of a GPU; two networks of 10 MB in segments of 12 s. Ours
WHOLE = 1.0


def resources_of(worker: str, recipe: Recipe) -> Resources:
    """What each worker ``module:Class`` holds; `ValueError` where `build.resources` names a stage that isn't."""
    if unknown := sorted(set(recipe.build.resources) - set(NODES)):
        raise ValueError(f"build.resources names {unknown}; the stages are {', '.join(NODES)}")
    for node in NODES.values():
        if worker_of(node.name, recipe) == worker:
            return recipe.build.resources.get(node.name) or _guess(node, recipe)
    return Resources()


def _guess(node: Node, recipe: Recipe) -> Resources:
    shares = [] if recipe.rehearsal else [_gpus(getattr(recipe, name, None)) for name in node.sections]
    return Resources(gpus=max(shares, default=0.0))


def _gpus(section: Config | None) -> float:
    if getattr(section, "device", "cpu") != "cuda":
        return 0.0
    return GPU_SHARE.get(getattr(section, "backend", ""), WHOLE)
