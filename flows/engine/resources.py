"""What a worker of a stage holds on a cluster, and how many songs it takes at once: the recipe's word, else what its
settings say.

Conventions: a stage whose section says ``device: cuda`` gets a GPU, or the share of one that its backend's memory takes
(`pipeline.assets.needs`); every other worker gets one CPU, since a worker computes on one thread. On a CPU a batch
gains nothing: only a stage on a GPU gets several songs at once by itself.
"""

from flows.recipe import Recipe, Resources
from flows.requirements import NEEDS, on_gpu
from flows.stages.graph import NODES, Node, worker_of
from pipeline.assets.needs import Needs

LEAST_GPU_GB = 8.0  # GB of the smallest GPU that we reckon with where `build.gpu_memory_gb` names none; ours
MOST_SHARERS = 4  # workers on one GPU: more only take its time from each other; ours


def resources_of(worker: str, recipe: Recipe) -> Resources:
    """What each worker ``module:Class`` holds; `ValueError` where `build.resources` names a stage that isn't."""
    if unknown := sorted(set(recipe.build.resources) - set(NODES)):
        raise ValueError(f"build.resources names {unknown}; the stages are {', '.join(NODES)}")
    for node in NODES.values():
        if worker_of(node.name, recipe) == worker:
            return recipe.build.resources.get(node.name) or _guess(node, recipe)
    return Resources()


def _guess(node: Node, recipe: Recipe) -> Resources:
    sections = [] if recipe.rehearsal else [name for name in node.sections if name in NEEDS]
    wanted = [(NEEDS[name](recipe), on_gpu(getattr(recipe, name))) for name in sections]
    return Resources(
        cpus=max((needs.cpus for needs, _ in wanted), default=1.0),
        gpus=min(1.0, sum(_share(needs, recipe) for needs, cuda in wanted if cuda)),
        memory_gb=sum(needs.memory_gb for needs, cuda in wanted if not cuda),
        songs_seconds=max((needs.songs_seconds for needs, cuda in wanted if cuda), default=0.0),
    )


def _share(needs: Needs, recipe: Recipe) -> float:
    """A whole GPU, or an equal part of one that as many workers fit on, by their memory."""
    if not needs.gpu_memory_gb:
        return 1.0
    fit = int((recipe.build.gpu_memory_gb or LEAST_GPU_GB) / needs.gpu_memory_gb)
    return 1.0 / max(1, min(MOST_SHARERS, fit))
