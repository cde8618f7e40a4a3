"""Kills processes that run the flow `build-dataset`, several in a row on one root, then lets one end.

A process of its own like `driver`, with Prefect's server in its environment: ``python flow.py '{"folder": …}'``; one
JSON line for each kill.
"""

import csv
import json
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forks import forked
from fsteps import Steps, watch
from plans import FlowPlan
from tiny_build import SPLITS, outcome, worked, write_library

from flows.build_dataset import BuildParameters, build_dataset
from flows.stages import graph

SETTINGS = [
    "rehearsal.results={rejected: 0.0, quarantined: 0.0}",
    "augmentation.copies.share=1.0",
    "library.batch_size=2",
    "build.workers=1",
    "splits.min_val=1",
    "splits.min_test=1",
]
SONGS = 4
LATE_SECONDS = 0.3  # s after a step in which a process dies at any time


class Late(Steps):
    """Ends the process a while after the step, wherever it is then."""

    seconds = 0.0

    def end(self) -> None:
        threading.Timer(self.seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()


class Runner:
    """One library, built again and again."""

    def __init__(self, plan: FlowPlan) -> None:
        self.plan, self.draw = plan, random.Random(plan.seed)
        self.base = Path(plan.folder)
        self.root, self.log = self.base / "root", self.base / "log"
        os.environ["CRASH_LOG"] = str(self.log)
        graph.WORKERS = "counted"
        self.library = write_manifest(self.base / "library")

    def run(self) -> Iterator[dict[str, Any]]:
        self._begin()
        steps: list[str] = forked(lambda: self._flow(Steps(self.root, self.base))).result
        undisturbed, expected = worked(self.log), self._outcome()
        yield {"outcome": expected}
        left = self.plan.kills
        while left:
            self._begin()
            places = [self._kill(len(steps)) for _ in range(min(left, self.plan.in_a_row))]
            forked(lambda: self._flow(Steps(self.root, self.base)))
            found, work = self._outcome(), worked(self.log)
            differ = {name: [expected[name], found[name]] for name in found if found[name] != expected[name]}
            share = (work - undisturbed) / len(places)
            for place in places:
                told = {"what": "process of the flow", "step": place, "killed": True, "differ": differ}
                yield told | {"undisturbed": undisturbed, "work": undisturbed + share}
            left -= len(places)

    def _kill(self, steps: int) -> str:
        """Let a flow's process die; one that ended before its step is followed by another, which dies sooner."""
        step = self.draw.randint(1, steps)
        while True:
            late = self.draw.random() < 0.5
            watched = (Late if late else Steps)(self.root, self.base, kill_at=step)
            watched.seconds = self.draw.uniform(0.0, LATE_SECONDS)
            if forked(lambda watched=watched: self._flow(watched)).killed:
                return f"{f'{watched.seconds:.2f} s after' if late else 'at'} step {step}"
            step = max(1, step // 3)

    def _flow(self, steps: Steps) -> list[str]:
        watch(steps)
        build_dataset(
            BuildParameters(
                recipe="demo",
                library=str(self.library),
                root=str(self.root),
                overrides=SETTINGS,
            )
        )
        return steps.told

    def _outcome(self) -> dict[str, Any]:
        told: dict[str, Any] = forked(lambda: outcome(self.root)).result
        told["files"] = {name: digest for name, digest in told["files"].items() if not name.endswith("README.md")}
        return told

    def _begin(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.log.unlink(missing_ok=True)


def write_manifest(folder: Path) -> Path:
    folder.mkdir()
    write_library(folder, SONGS)
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "split"))
        table.writerows((f"{number:04d}.wav", SPLITS[number % len(SPLITS)]) for number in range(SONGS))
    return path


def main() -> None:
    for told in Runner(FlowPlan(**json.loads(sys.argv[1]))).run():
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
