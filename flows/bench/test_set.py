"""The frozen test set as `Material`: complete and as it was frozen, or an error that names the remedy."""

import json
from collections.abc import Iterable
from pathlib import Path

from flows.bench import fetch, rendered
from flows.bench.material import Material
from flows.bench.plan import Plan, Role, load_frozen, load_plan
from pipeline.errors import BadInput
from pipeline.songs.truth import is_current


def frozen_material(root: Path, first: int = 0) -> Material:
    """What `backline bench render` and `fetch` brought below `root`, checked against what was frozen.

    With `first`, only so many of every kind, and only these need to be there.
    """
    plan = load_plan()
    material = _material(rendered.by_group(rendered.check(root, plan, load_frozen(), first)), root, plan)
    return material.first(first) if first else material


def library_material(folder: Path, root: Path, first: int = 0) -> Material:
    """The rendered songs of any folder, for a look while tuning, beside the real recordings below `root`.

    `BadInput` where the folder has none of this version of the renderer.
    """
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.glob("*/truth.json")):
        if is_current(path):
            told = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault((told["kind"], told.get("fault", "")), []).append(path.parent)
    if not found:
        raise BadInput(f"no song of this version of the renderer in {folder}: backline songs render --out {folder}")
    material = _material({key: tuple(paths) for key, paths in found.items()}, root, load_plan())
    return material.first(first) if first else material


def real_recordings(root: Path, plan: Plan, role: Role) -> tuple[Path, ...]:
    """The verified recordings of one role, package after package."""
    return tuple(path for package in plan.packages if package.role == role for path in fetch.recordings(root, package))


def _material(groups: dict[tuple[str, str], tuple[Path, ...]], root: Path, plan: Plan) -> Material:
    faults: Iterable[str] = sorted(fault for kind, fault in groups if fault)
    return Material(
        songs=groups.get(("song", ""), ()),
        faulty={fault: groups["song", fault] for fault in faults},
        instrumentals=groups.get(("instrumental", ""), ()),
        podcasts=groups.get(("speech", ""), ()),
        singers=real_recordings(root, plan, "singers"),
        backings=real_recordings(root, plan, "backings"),
        prompts=real_recordings(root, plan, "prompts"),
    )
