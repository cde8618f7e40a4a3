"""Kills processes of the local engine: its workers at chosen places and any time, and the engine's own process.

A process of its own like `driver`: ``python pool.py '{"folder": …}'``, one JSON line for each kill.
"""

import json
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counted import Doom, foretell
from forks import forked
from fsteps import Steps, watch
from plans import PoolPlan
from tiny_build import InPool, Job, SongsFailedError, batches, build, outcome, worked, write_library

STEPS = {"SeparationWorker": 14, "AugmentationWorker": 14, "TokenizationWorker": 7, "CopyTokenizationWorker": 7}
WORKERS = (
    "Detection", "Quality", "Separation", "Artifact", "Structure", "Annotation", "Selection", "Augmentation",
    "Tokenization", "CopyTokenization",
)  # fmt: skip
MARK = b"flows.engine.child"  # in the command line of a worker process


class Runner:
    """One library, built again and again."""

    def __init__(self, plan: PoolPlan) -> None:
        self.plan, self.draw = plan, random.Random(plan.seed)
        self.base = Path(plan.folder)
        self.root, self.log = self.base / "root", self.base / "log"
        os.environ["CRASH_LOG"] = str(self.log)
        self.job = Job(str(self.root), str(self.base / "library"), ("rehearsal.sleep=0.02",))
        (self.base / "library").mkdir()
        write_library(self.base / "library", 4)

    def run(self) -> Iterator[dict[str, Any]]:
        self._begin()
        self.steps = forked(lambda: self._in_pool(0)).result
        self.undisturbed, self.expected = worked(self.log), forked(lambda: outcome(self.root)).result
        self.tracks = [track for batch in forked(lambda: batches(self.root)).result for track in batch]
        yield {"outcome": self.expected}
        with InPool(workers=2) as engine:
            yield from (self.worker_at_place(engine, number) for number in range(self.plan.workers_at_places))
            yield from (self.worker_at_time(engine) for _ in range(self.plan.workers_at_times))
        yield from (self.engine_at_step() for _ in range(self.plan.engines_at_steps))
        yield from (self.engine_at_time() for _ in range(self.plan.engines_at_times))

    def worker_at_place(self, engine: InPool, number: int) -> dict[str, Any]:
        """Every stage in turn: before the song, in a step of its writing, or between its artefacts and its row."""
        self._begin()
        name = f"{WORKERS[number % len(WORKERS)]}Worker"
        doom = Doom(name, self.tracks[0], self.draw.randint(0, STEPS.get(name, 1)))  # a track that every stage gets
        foretell(self.log, doom)
        self._until_done(engine)
        killed = Path(f"{self.log}.taken").exists()
        return self._told("worker of the pool, at a place", f"{name} step {doom.step}", killed)

    def worker_at_time(self, engine: InPool) -> dict[str, Any]:
        self._begin()
        moment = self._moment()
        victims: list[int] = []
        killer = threading.Thread(target=lambda: moment.wait(self.log) or victims.append(kill_worker()))
        killer.start()
        self._until_done(engine)
        killer.join()
        return self._told("worker of the pool, at a time", f"{moment}", 0 not in victims)

    def engine_at_step(self) -> dict[str, Any]:
        """The process that commits what its workers make dies at a step of its own."""
        self._begin()
        step = self.draw.randint(1, len(self.steps))
        killed = forked(lambda: self._in_pool(step)).killed
        forked(lambda: build(self.job))
        return self._told("engine's process, at a step", self.steps[step - 1], killed)

    def engine_at_time(self) -> dict[str, Any]:
        self._begin()
        moment = self._moment()
        child = os.fork()
        if child == 0:
            self._in_pool(0)
            os._exit(0)
        moment.wait(self.log)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        forked(lambda: build(self.job))
        return self._told("engine's process, at a time", f"{moment}", os.WIFSIGNALED(status))

    def _in_pool(self, kill_at: int) -> list[str]:
        steps = Steps(self.root, self.base, kill_at)
        watch(steps)
        with InPool(workers=1) as engine:
            build(self.job, engine)
        return steps.told

    def _until_done(self, engine: InPool) -> None:
        """A song that lost two workers has failed, and the next build tries again."""
        try:
            build(self.job, engine)
        except SongsFailedError:
            build(self.job, engine)

    def _moment(self) -> "Moment":
        return Moment(self.draw.randint(1, self.undisturbed), self.draw.uniform(0.0, 0.1))

    def _told(self, what: str, where: str, killed: bool) -> dict[str, Any]:
        found = forked(lambda: outcome(self.root)).result
        differ = {name: [self.expected[name], found[name]] for name in found if found[name] != self.expected[name]}
        return {
            "what": what, "step": where, "killed": killed, "work": worked(self.log), "undisturbed": self.undisturbed,
            "differ": differ,
        }  # fmt: skip

    def _begin(self) -> None:
        """An empty root and an empty log."""
        shutil.rmtree(self.root, ignore_errors=True)
        for path in self.base.glob("log*"):
            path.unlink()


@dataclass(frozen=True, slots=True)
class Moment:
    """Any time, but spread over the whole build on a machine of any speed."""

    songs: int  # that workers have begun
    seconds: float  # s after that

    def wait(self, log: Path) -> None:
        while worked(log) < self.songs:
            time.sleep(0.001)
        time.sleep(self.seconds)


def kill_worker() -> int:
    """Kill one of this process's workers; 0 where there is none."""
    me = os.getpid()
    for line in Path(f"/proc/{me}/task/{me}/children").read_text().split():
        if MARK in Path(f"/proc/{line}/cmdline").read_bytes():
            os.kill(int(line), signal.SIGKILL)
            return int(line)
    return 0


def main() -> None:
    for told in Runner(PoolPlan(**json.loads(sys.argv[1]))).run():
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
