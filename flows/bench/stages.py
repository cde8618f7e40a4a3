"""Run the bench of each stage on one material: rows as they come, one stage after the other.

Conventions: a stage's bench is ``flows/bench/<stage>.py`` with ``measure(material, progress) -> list[Row]`` and, where
its method has variants worth comparing, ``ablation`` of the same signature. It is imported when it runs.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec

from flows.bench.material import Material, Progress
from flows.bench.table import Row
from pipeline.errors import BackendUnavailable

STAGES = (
    "detection",
    "quality",
    "separation",
    "artifacts",
    "structure",
    "annotation",
    "conditioning",
    "codec",
)  # in the build's order
Measure = Callable[[Material, Progress], list[Row]]


def chosen(names: Sequence[str]) -> tuple[str, ...]:
    """The stages of those names in the build's order, all where none is named; `ValueError` for one that is unknown."""
    unknown = [name for name in names if name not in STAGES]
    if unknown:
        raise ValueError(f"no bench for {', '.join(unknown)}; there are {', '.join(STAGES)}")
    return tuple(stage for stage in STAGES if stage in names) if names else STAGES


def measures(stage: str, ablation: bool = False) -> tuple[Measure, ...]:
    """What a stage's bench runs; `BackendUnavailable` where this build of Backline has none for it."""
    name = f"flows.bench.{stage}"
    if find_spec(name) is None:
        raise BackendUnavailable(f"stage {stage!r} has no bench here ({name} is missing): leave it out with --only")
    module = import_module(name)
    extra = (module.ablation,) if ablation and hasattr(module, "ablation") else ()
    return (module.measure, *extra)


def run(
    stages: Sequence[str], material: Material, progress: Callable[[str, int, int], None], ablation: bool = False
) -> Iterator[list[Row]]:
    """The rows of each stage as soon as they are there; `progress(stage, done, total)` in between."""
    work = [(stage, measures(stage, ablation)) for stage in stages]
    for stage, parts in work:

        def show(done: int, total: int, stage: str = stage) -> None:
            progress(stage, done, total)

        yield [row for part in parts for row in part(material, show)]


def to_json(row: Row) -> str:
    """One line; what is not a number is null."""
    told = {**asdict(row), "passes": row.passes, "reaches_aim": row.reaches_aim}
    return json.dumps({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in told.items()})
