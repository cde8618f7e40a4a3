"""The stages, what each reads, what its key hashes, and which songs it gets.

A stage's key holds only the stages it reads and its own settings: change a setting and only what depends on it runs
again. The gate is in selection's settings alone, so a changed threshold touches nothing before selection. Which songs
a stage gets is no part of its key, so rows can outlive their admission: `in_force` tells those that count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from flows.recipe import Recipe
from flows.rehearsal import WORKERS
from flows.requirements import NEEDS, weights_of
from flows.stages.context import Context, Rows, value_of
from pipeline import augmentation, fingerprint, selection, tokenization
from pipeline.annotation import stage as annotation
from pipeline.augmentation import plan
from pipeline.codec import codec
from pipeline.config import Config
from pipeline.detection import stage as detection
from pipeline.quality import stage as quality
from pipeline.quality.stage import Quality
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row, stage_key
from pipeline.selection import Verdict, passes_gate
from pipeline.separation import artifacts
from pipeline.separation import stage as separation
from pipeline.structure import stage as structure


class Settings(Config):
    """What a stage's key hashes: some sections of the recipe, by name, and the seed where the stage draws."""

    sections: Mapping[str, object]
    seed: int | None = None
    weights: Mapping[
        str, str
    ] = {}  # section -> sha256, where a recipe may name a weights file or the assets are pulled


@dataclass(frozen=True, slots=True)
class Node:
    """One stage of the build."""

    name: str
    version: int  # the stage's own constant
    reads: tuple[str, ...]  # stages whose results it takes
    sections: tuple[str, ...]  # of the recipe
    worker: str  # "module:Class", imported in the worker process only
    random: bool = False  # draws from the data set's seed

    def settings(self, recipe: Recipe) -> Settings:
        sections = {name: _keyed(recipe, name) for name in self.sections}
        if recipe.rehearsal is not None:  # keys that no real build has
            sections["rehearsal"] = recipe.rehearsal.results.model_dump(mode="json")
        return Settings(
            sections=sections,
            seed=recipe.seed if self.random else None,
            weights=_weights(self.sections, recipe),
        )


def worker_of(stage: str, recipe: Recipe) -> str:
    """``module:Class`` of a stage's worker; of its stand-in in a rehearsal."""
    worker = NODES[stage].worker
    return worker if recipe.rehearsal is None else f"{WORKERS}:{worker.partition(':')[2]}"


WEIGHTS: Mapping[str, Callable[[Recipe], str]] = {
    "codec": lambda recipe: "" if codec.needs(recipe.codec).assets else codec.weights_sha256(recipe.codec),
    "structure": lambda recipe: structure.weights_sha256(recipe.structure),
}
LISTENING, STEMS, TOKENS = (f"flows.stages.{name}" for name in ("listening", "stems", "tokens"))
TOKEN_SECTIONS = ("tokenization", "codec", "conditioning", "augmentation.balance")
NODES = {
    node.name: node
    for node in (
        Node("fingerprint", fingerprint.VERSION, (), ("library.decode",), f"{LISTENING}:FingerprintWorker"),
        Node("detection", detection.VERSION, (), ("detection", "library.decode"), f"{LISTENING}:DetectionWorker"),
        Node("quality", quality.VERSION, (), ("quality", "library.decode"), f"{LISTENING}:QualityWorker"),
        Node("separation", separation.VERSION, (), ("separation", "library.decode"), f"{STEMS}:SeparationWorker"),
        Node("artifacts", artifacts.VERSION, ("separation",), ("artifacts",), f"{STEMS}:ArtifactWorker"),
        Node("structure", structure.VERSION, ("detection",), ("structure",), f"{LISTENING}:StructureWorker"),
        Node("annotation", annotation.VERSION, (), ("annotation", "library.decode"), f"{LISTENING}:AnnotationWorker"),
        Node(
            "selection",
            selection.VERSION,
            ("fingerprint", "detection", "quality", "artifacts", "structure"),
            ("selection",),
            f"{TOKENS}:SelectionWorker",
        ),
        Node(
            "augmentation",
            augmentation.VERSION,
            ("detection", "separation", "structure", "annotation"),
            ("augmentation.copies",),
            f"{STEMS}:AugmentationWorker",
            random=True,
        ),
        Node(
            "tokenization",
            tokenization.VERSION,
            ("separation", "annotation"),
            TOKEN_SECTIONS,
            f"{TOKENS}:TokenizationWorker",
            True,
        ),
        Node(
            "tokenization-copies",
            tokenization.VERSION,
            ("augmentation",),
            TOKEN_SECTIONS,
            f"{TOKENS}:CopyTokenizationWorker",
            True,
        ),
    )
}


def stage_keys(recipe: Recipe) -> dict[str, str]:
    """Stage name -> key, in the order of the build."""
    keys: dict[str, str] = {}
    for node in NODES.values():
        keys[node.name] = stage_key(
            node.name, node.version, node.settings(recipe), {name: keys[name] for name in node.reads}
        )
    return keys


def gets(node: Node, context: Context, track: CatalogRow, rows: Rows) -> bool:
    """Whether a stage works on a track, given the rows of the stages before it."""
    return ADMISSION[node.name](context, track, rows)


def in_force(context: Context, track: CatalogRow, rows: Rows) -> dict[str, Row]:
    """The rows of a track that a fresh build with this recipe would make, in the order of the build.

    A stage's key doesn't say whether the track still gets there: after a lowered gate was raised again, or a detection
    setting changed, rows of later stages lie at today's keys and count for nothing.
    """
    kept: dict[str, Row] = {}
    for name, node in NODES.items():
        if name in rows and gets(node, context, track, kept):
            kept[name] = rows[name]
    return kept


def lineage(*stages: str) -> set[str]:
    """These stages and all that they descend from."""
    found = set(stages)
    for node in reversed(NODES.values()):
        if node.name in found:
            found |= set(node.reads)
    return found


def _passed(rows: Rows, *names: str) -> bool:
    for name in names:  # noqa: SIM110  # asked a hundred times for every song, where `all` takes twice as long
        if name not in rows or rows[name].status != "ok":
            return False
    return True


def _all(context: Context, track: CatalogRow, rows: Rows) -> bool:
    return True


def _song(context: Context, track: CatalogRow, rows: Rows) -> bool:
    return _passed(rows, "detection")


def _admitted(context: Context, track: CatalogRow, rows: Rows) -> bool:
    """A song that is not left out, above the gate where the gate stands before everything (``gate.scope: all``)."""
    gate = context.recipe.selection.gate
    if not _passed(rows, "detection", "quality") or context.left_out(track):
        return False
    return gate.scope != "all" or passes_gate(gate, value_of(rows, "quality", Quality))


def _admitted_with(context: Context, track: CatalogRow, rows: Rows, needed: tuple[str, ...]) -> bool:
    return _admitted(context, track, rows) and _passed(rows, *needed)


def _judged(context: Context, track: CatalogRow, rows: Rows) -> bool:
    """A song that is left out, or under a gate that stands before everything, is judged without stems: it has none."""
    return _passed(rows, "fingerprint", "detection", "quality") and (
        not _admitted(context, track, rows) or _passed(rows, "artifacts", "structure")
    )


def _copied(context: Context, track: CatalogRow, rows: Rows) -> bool:
    """One song in five of those that stage 2 selected for training; never a song held out."""
    needed = (*NODES["augmentation"].reads, "selection")
    if not _admitted_with(context, track, rows, needed) or context.split(track) != "train":
        return False
    selected = value_of(rows, "selection", Verdict).stage == "stage2"
    return selected and plan(context.recipe.augmentation.copies, context.recipe.seed, track.track_id) != "orig"


def _has_copy(context: Context, track: CatalogRow, rows: Rows) -> bool:
    return _copied(context, track, rows) and _passed(rows, "augmentation")


ADMISSION: Mapping[str, Callable[[Context, CatalogRow, Rows], bool]] = {
    "fingerprint": _all,
    "detection": _all,
    "quality": _song,
    "separation": _admitted,
    "artifacts": partial(_admitted_with, needed=("separation",)),
    "structure": _admitted,
    "annotation": _admitted,
    "selection": _judged,
    "augmentation": _copied,
    "tokenization": partial(_admitted_with, needed=("separation", "annotation", "selection")),
    "tokenization-copies": _has_copy,
}


def _weights(sections: tuple[str, ...], recipe: Recipe) -> dict[str, str]:
    """Hashes of the weights that no setting pins: of files that a recipe may name, and of pulled assets."""
    named = {name: WEIGHTS[name](recipe) for name in sections if name in WEIGHTS}
    pulled = {name: weights_of(name, recipe) for name in sections if name in NEEDS}
    both = {name: f"{named.get(name, '')} {pulled.get(name, '')}".strip() for name in (*named, *pulled)}
    return {name: hashes for name, hashes in both.items() if hashes}


def _keyed(recipe: Recipe, path: str) -> object:
    """A section as a key holds it: of the codec, what codes follow from; another sampler re-tokenizes nothing."""
    section = recipe.codec.encoding() if path == "codec" else _section(recipe, path)
    return section.model_dump(mode="json")


def _section(recipe: Recipe, path: str) -> Config:
    value: object = recipe
    for name in path.split("."):
        value = getattr(value, name)
    if not isinstance(value, Config):
        raise TypeError(f"recipe section {path!r} is not a Config")
    return value
