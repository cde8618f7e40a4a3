"""Kills a build at chosen steps in the file system, runs it again, and compares; one JSON line for each kill.

A process of its own, which has one thread and imported everything once: ``python driver.py '{"folder": …}'``. The
scenarios say what stands before, and what is killed.
"""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plans
from forks import forked
from fsteps import Steps, watch
from plans import StepPlan
from tiny_build import Job, build, outcome, worked, write_library

from pipeline.records.catalog import Catalog
from pipeline.records.forget import forget
from pipeline.records.leftovers import collect

CHANGED = "tokenization.variants=2"  # a setting that changes tokens, and with them every train shard


@dataclass(frozen=True, slots=True)
class Scenario:
    """What stands before, and what is killed; both take the folder of ``library`` and ``root``."""

    before: Callable[[Path], None]
    act: Callable[[Path], None]


def nothing(folder: Path) -> None:
    write_library(folder / "library", 4)


def first(folder: Path, *settings: str) -> None:
    build(Job(str(folder / "root"), str(folder / "library"), settings))


def built(folder: Path) -> None:
    nothing(folder)
    first(folder)


def grown(folder: Path) -> None:
    built(folder)
    write_library(folder / "library", 6)


def oldest(folder: Path) -> str:
    return Catalog(folder / "root").read(0)[0].track_id


def doomed(folder: Path) -> None:
    """A built root whose first song is going to be forgotten."""
    built(folder)
    (folder / "song").write_text(oldest(folder))


def littered(folder: Path) -> None:
    """A built root with what killed writers left."""
    built(folder)
    root = folder / "root"
    dataset = next((root / "datasets").iterdir())
    store = next((root / "stages").glob("separation-*"))
    for name in (
        dataset / ".attempt-a-x.tar",
        dataset / "val-000009-01234567.tar",
        store / "audio" / "ab-vocal-0.flac",
    ):
        name.write_bytes(b"torn")


SCENARIOS = {
    "first build": Scenario(nothing, first),
    "stems let go": Scenario(nothing, lambda folder: first(folder, "build.keep_stems=none")),
    "songs added": Scenario(grown, first),
    "setting changed": Scenario(built, lambda folder: first(folder, CHANGED)),
    "song forgotten": Scenario(doomed, lambda folder: _forget(folder)),
    "leftovers collected": Scenario(littered, lambda folder: _collect(folder)),
}


assert set(SCENARIOS) == set(plans.SCENARIOS)


def _forget(folder: Path) -> None:
    forget(folder / "root", (folder / "song").read_text(), "contract ended")


def _collect(folder: Path) -> None:
    collect(folder / "root", lease_hours=0)


class Runner:
    """One scenario, from the same state again and again."""

    def __init__(self, plan: StepPlan) -> None:
        self.plan, self.scenario = plan, SCENARIOS[plan.scenario]
        self.base = Path(plan.folder)
        self.root, self.stash, self.template = (self.base / name for name in ("root", "stash", "template"))
        for folder in (self.root, self.stash, self.base / "library"):
            folder.mkdir()
        self._log("before")
        forked(lambda: self.scenario.before(self.base))
        self.root.rename(self.template)

    def run(self) -> Iterator[dict[str, Any]]:
        """Undisturbed, then killed at each point."""
        whole = self._begin("whole")
        told: list[str] = forked(lambda: self._act(0)).result
        expected = forked(lambda: outcome(self.root)).result
        yield {"steps": len(told), "told": told, "outcome": expected}
        points = list(range(1, len(told) + 1))
        if self.plan.kills:
            points = sorted(random.Random(self.plan.seed).sample(points, min(self.plan.kills, len(points))))
        for point in points[self.plan.lane :: self.plan.lanes]:
            yield {"step": told[point - 1], "undisturbed": worked(whole)} | self._kill(point, expected)

    def _kill(self, point: int, expected: dict[str, Any]) -> dict[str, Any]:
        log = self._begin(f"{point}")
        killed = forked(lambda: self._act(point)).killed
        forked(lambda: self.scenario.act(self.base))
        found = forked(lambda: outcome(self.root)).result
        differ = {name: [expected[name], found[name]] for name in expected if found[name] != expected[name]}
        return {"killed": killed, "differ": differ, "work": worked(log)}

    def _act(self, kill_at: int) -> list[str]:
        steps = Steps(self.root, self.stash, kill_at, self.plan.power_cut)
        watch(steps)
        self.scenario.act(self.base)
        return steps.told

    def _begin(self, name: str) -> Path:
        """The root as it stood before, and an empty log of work."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.template, self.root)
        return self._log(name)

    def _log(self, name: str) -> Path:
        log = self.base / f"{name}.log"
        os.environ["CRASH_LOG"] = str(log)
        return log


def main() -> None:
    for told in Runner(StepPlan(**json.loads(sys.argv[1]))).run():
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
