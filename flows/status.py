"""Which build a root holds, and where it stands, told without Prefect.

Conventions: ``<root>/build.json`` says what is being built: the resolved recipe and the keys of its stages. The last
build of a root wrote it; nothing reads it but people and `backline status`, and no hash covers it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError

from flows.progress import BuildProgress, progress_of
from flows.recipe import DATASET_RECIPE, Recipe, load_recipe
from flows.stages.context import Context
from flows.stages.graph import stage_keys
from flows.survey import Survey
from flows.tally import StageStatistics
from pipeline.config import Config
from pipeline.errors import BadInput
from pipeline.records import files
from pipeline.records.files import Place

logger = logging.getLogger(__name__)
NOTE = "build.json"


class BuildNote(Config):
    """What is being built in a root."""

    recipe: Recipe
    keys: Mapping[str, str]  # stage -> key, in the order of the build


def note_build(context: Context) -> None:
    """Say what is being built; the same build says the same."""
    note = BuildNote(recipe=context.recipe, keys=context.keys).model_dump_json(indent=1).encode()
    path = context.root / NOTE
    if not path.exists() or path.read_bytes() != note:
        files.replace(path, note)


def build_of(root: Place, recipe: str = "", overrides: Sequence[str] = ()) -> Context:
    """The build that a root's note names, or that of a recipe.

    `BadInput` where there is neither: an older root has no note.
    """
    if recipe:
        chosen = load_recipe(recipe, overrides)
        return Context(root, chosen, stage_keys(chosen))
    path = root / NOTE
    try:
        note = BuildNote.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _published(root)
    except ValidationError as error:
        raise BadInput(f"{path} is of another version of Backline: {error}; name the recipe with --recipe") from error
    if dict(note.keys) != stage_keys(note.recipe):
        logger.warning("%s was built with other keys than this Backline has: what is to come can't be told", root)
    return Context(root, note.recipe, note.keys)


def _published(root: Place) -> Context:
    """The build of the one dataset that a root without a note has."""
    found = [root / "datasets" / entry.name / DATASET_RECIPE for entry in files.entries(root / "datasets")]
    recipes = [path for path in found if path.exists()]
    if len(recipes) != 1:
        raise BadInput(
            f"{root} has no {NOTE} and {len(recipes)} published datasets; name the recipe of the build with --recipe, "
            "or check the path",
            reason="no_build",
        )
    recipe = Recipe.model_validate_json(recipes[0].read_bytes())
    return Context(root, recipe, stage_keys(recipe))


def watch(context: Context) -> Iterator[BuildProgress]:
    """Where the build stands, at every step of the iteration; each reads what was committed since the last."""
    survey = Survey(context)
    while True:
        yield progress_of(survey.look())


def as_json(progress: BuildProgress) -> dict[str, Any]:
    """All of it as plain values; what is not known is None."""
    return {
        "songs": progress.songs,
        "audio_hours": progress.audio_seconds / 3600,
        "done_share": progress.share,
        "eta_seconds": progress.eta,
        "eta_lacks": list(progress.unknown),
        "latest": progress.latest or None,
        "stages": [
            _plain(stage.done) | {"wanted": stage.wanted, "expected": stage.expected, "eta_seconds": _known(stage.eta)}
            for stage in progress.stages
        ],
        "batches": {
            stage: {str(batch): _plain(told) for batch, told in batches.items()}
            for stage, batches in progress.batches.items()
        },
    }


def _plain(told: StageStatistics) -> dict[str, Any]:
    rates = {
        "seen": told.seen,
        "wall_seconds": told.wall,
        "songs_per_second": _known(told.songs_per_second),
        "audio_hours_per_hour": _known(told.audio_per_second),
    }
    left_out = ("backends", "runs")
    return {name: value for name, value in asdict(told).items() if name not in left_out} | rates


def _known(value: float) -> float | None:
    return value if value == value else None  # NaN is not itself
