"""One YAML file -> one typed Recipe: every setting of a build, a training run and an evaluation.

A recipe may name a ``base`` recipe and override parts of it; unknown keys are refused. Stages get only their own
section. ``demo-no-rtd`` is the recipe ``demo`` with the ablation ``no-rtd`` of recipes/ablations.yaml laid over it.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from flows.rehearsal import Rehearsal
from model.config import ModelConfig, SamplerConfig, TrainingConfig, TrainRun
from model.evaluation.settings import EvaluationSettings
from pipeline.annotation.stage import AnnotationConfig
from pipeline.audio import DecodeLimits
from pipeline.augmentation import AugmentationConfig
from pipeline.codec.codec import CodecConfig
from pipeline.conditioning.conditioner import ConditioningConfig
from pipeline.config import Config
from pipeline.detection.stage import DetectionConfig
from pipeline.quality.stage import QualityConfig
from pipeline.records.splits import SplitConfig
from pipeline.selection import SelectionConfig
from pipeline.separation.artifacts import ArtifactConfig
from pipeline.separation.stage import SeparationConfig
from pipeline.structure.stage import StructureConfig
from pipeline.tokenization import TokenizationConfig

DATASET_RECIPE = "recipe.json"  # the resolved recipe of a build, beside its dataset's manifest
ABLATIONS = "ablations"  # the file beside the recipes
REHEARSAL = "rehearsal-"  # how the names of rehearsals' datasets begin


class LibraryConfig(Config):
    """How songs are catalogued and read."""

    batch_size: int = Field(default=256, ge=1, le=256)  # tracks; notes on Prefect's cost per task
    decode: DecodeLimits = DecodeLimits()


class Resources(Config):
    """What one worker of a stage holds while it lives."""

    cpus: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)  # a fraction lets workers share one
    memory_gb: float = Field(default=0.0, ge=0)  # of the machine's, as Ray books it; 0 = not booked
    # s of songs that it takes at once, each counted as the longest of them; 0 = one song at a time
    songs_seconds: float = Field(default=0.0, ge=0)


class BuildConfig(Config):
    """How a build runs; nothing here changes a byte of its result."""

    workers: int = Field(default=2, ge=1)  # processes of the local engine; CPUs of a Ray that the build starts itself
    # s for one song at one stage, 0 = no limit. Ours: the longest song that `library.decode` lets pass lasts 1800 s,
    # and the slowest backend on one CPU core, demucs, takes less than twice a song's length.
    song_seconds: float = Field(default=3600.0, ge=0)
    song_attempts: int = Field(default=2, ge=1)  # of a song that loses its worker (died, timeout, out of memory); ours
    worker_memory_gb: float = Field(default=0.0, ge=0)  # GB resident in one worker process, 0 = no limit
    # s between two commits of a batch's rows, at least. Ours: a kill loses so much work, or a sixteenth of the batch; a
    # stage that needs no longer for 256 songs makes one file of them instead of 16, which every later look has to read.
    part_seconds: float = Field(default=20.0, ge=0)
    ray_address: str = ""  # of a Ray cluster; empty = RAY_ADDRESS, else a Ray of our own on this machine
    gpu_memory_gb: float = Field(default=0.0, ge=0)  # GB of one GPU of yours, so that small models share it; 0 = 8 GB
    resources: Mapping[str, Resources] = {}  # stage -> what each of its workers on Ray holds, in place of our guess
    failure_limit: float = Field(default=0.02, ge=0, le=1)  # share of songs that may end as failed; ours
    # Stems of 100,000 hours are tens of terabytes. `until_tokenized` keeps those of held-out songs, which evaluation
    # needs, `none` not even these; stems that a later change needs again are made again.
    keep_stems: Literal["all", "until_tokenized", "none"] = "all"


class Recipe(Config):
    name: str
    seed: int = 0  # of the data set: every random choice of the build derives from it
    library: LibraryConfig = LibraryConfig()
    splits: SplitConfig = SplitConfig()
    build: BuildConfig = BuildConfig()
    detection: DetectionConfig = DetectionConfig()
    quality: QualityConfig = QualityConfig()
    separation: SeparationConfig = SeparationConfig()
    artifacts: ArtifactConfig = ArtifactConfig()
    structure: StructureConfig = StructureConfig()
    annotation: AnnotationConfig = AnnotationConfig()
    selection: SelectionConfig = SelectionConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    codec: CodecConfig = CodecConfig()
    conditioning: ConditioningConfig = ConditioningConfig()
    tokenization: TokenizationConfig = TokenizationConfig()
    model: ModelConfig
    released: str = (
        ""  # asset with published weights of this model: `generate --recipe` plays them. Empty = there are none
    )
    training: TrainingConfig
    sampler: SamplerConfig = SamplerConfig()
    evaluation: EvaluationSettings = EvaluationSettings()
    # asset -> SHA-256 of its files: pins, as `backline assets pin` prints them; other weights are refused. A build adds
    # those of the weights that it finds, so that its stages have the same keys on machines without them
    weights: Mapping[str, str] = {}
    rehearsal: Rehearsal | None = None  # with it, stand-ins do the work of every stage, under keys of their own

    @model_validator(mode="after")
    def _trains(self) -> Self:
        self.train_run()
        return self

    def train_run(self) -> TrainRun:
        """What `model.train` needs of this recipe."""
        return TrainRun(
            model=self.model,
            training=self.training,
            sampler=self.sampler,
            codec=self.codec,
            conditioning=self.conditioning,
            loudness=self.tokenization.loudness,
        )


def recipe_names() -> list[str]:
    """The recipes that ship with Backline, ablations left out."""
    found = (f.name.removesuffix(".yaml") for f in files("flows.recipes").iterdir() if f.name.endswith(".yaml"))
    return sorted(name for name in found if name != ABLATIONS)


def ablations() -> dict[str, dict[str, Any]]:
    """What each ablation changes: laid over recipe R it is the recipe ``R-<ablation>``."""
    tree: dict[str, dict[str, Any]] = yaml.safe_load(_shipped(ABLATIONS))
    return tree


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, or of that YAML file, with ``section.key=value`` overrides.

    Raises `ValueError` naming the recipe, the key and the remedy.
    """
    tree = _tree(name)
    for text in overrides:
        path, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"override {text!r} must look like section.key=value")
        nested: Any = yaml.safe_load(value)
        for part in reversed(path.split(".")):
            nested = {part: nested}
        tree = _merge(tree, nested)
    if tree.get("rehearsal") is not None:
        tree["name"] = f"{REHEARSAL}{str(tree.get('name')).removeprefix(REHEARSAL)}"  # a dataset of its own
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise ValueError(f"recipe {name!r} is not valid:\n{error}") from error


def dataset_recipe(dataset: Path) -> Recipe:
    """The recipe that a dataset was built with."""
    return Recipe.model_validate_json((dataset / DATASET_RECIPE).read_text(encoding="utf-8"))


def _tree(name: str) -> dict[str, Any]:
    for base in recipe_names():
        if name.startswith(f"{base}-") and (change := ablations().get(name.removeprefix(f"{base}-"))):
            return _merge(_tree(base), {**change, "name": name})
    tree: dict[str, Any] = yaml.safe_load(_text(name)) or {}
    base = tree.pop("base", None)
    return _merge(_tree(base), tree) if base else tree


def _text(name: str) -> str:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"recipe file {name!r} does not exist; shipped recipes: {', '.join(recipe_names())}")
        return path.read_text(encoding="utf-8")
    if name not in recipe_names():
        raise ValueError(
            f"no recipe {name!r}; shipped: {', '.join(recipe_names())}, each also with -{', -'.join(ablations())}; or "
            "give the path of a .yaml file"
        )
    return _shipped(name)


def _shipped(name: str) -> str:
    return files("flows.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: mappings merge key by key, everything else replaces."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
