"""Kills machines of a Ray cluster in the middle of a build: two nodes on this machine, one of them dies, another comes.

A process of its own like `driver`: ``python nodes.py '{"folder": …}'``; one JSON line for each kill. A node dies with
all its processes: its raylet, the actors on it, and the workers that these watch.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from plans import NodePlan
from pool import Moment
from tiny_build import Job, SongsFailedError, build, counted, outcome, worked, write_library

from flows.bench.server import processes
from flows.engine.attempt import Item
from flows.engine.engine import OnRow
from flows.engine.ray import RayEngine
from flows.recipe import BuildConfig
from flows.stages.context import Context
from pipeline.records.ledger import Row

STARTS = 4  # tries to start a node; ours
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}  # bytes


class InRay(RayEngine):
    """The Ray engine, its workers counted."""

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        return super().run(counted(worker), context, items, on_row)


class Machines:
    """A head that works on nothing, and two nodes."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80_000_000})
        self.nodes = [self._add() for _ in range(2)]

    def kill_one(self) -> None:
        """The older node dies with all that runs on it, at once; a new one takes its place."""
        node = self.nodes.pop(0)
        (raylet,) = node.all_processes["raylet"]
        for process in processes(raylet.process.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self._add())

    def _add(self) -> Any:
        """A new node; on a busy machine one may not be up in the 30 s that Ray gives it."""
        for tries_left in reversed(range(STARTS)):
            try:
                return self.cluster.add_node(**NODE)
            except Exception as error:  # Ray raises no other
                if not tries_left or "timed out during startup" not in str(error):
                    raise
        raise AssertionError("the last try returns or raises")


class Runner:
    """One library, built again and again."""

    def __init__(self, plan: NodePlan) -> None:
        import ray

        self.plan, self.draw = plan, random.Random(plan.seed)
        self.base = Path(plan.folder)
        self.root, self.log = self.base / "root", self.base / "log"
        os.environ["CRASH_LOG"] = str(self.log)
        (self.base / "library").mkdir()
        write_library(self.base / "library", 4)
        self.job = Job(str(self.root), str(self.base / "library"), ("rehearsal.sleep=0.2",))
        self.machines = Machines()
        ray.init(address=self.machines.cluster.address, logging_level="ERROR")

    def run(self) -> Iterator[dict[str, Any]]:
        self._begin()
        build(self.job)
        undisturbed, expected = worked(self.log), outcome(self.root)
        yield {"outcome": expected}
        left = self.plan.kills
        while left:
            self._begin()
            moments = self._moments(min(left, self.plan.in_a_build), undisturbed)
            self._killed_at(moments)
            found, share = outcome(self.root), (worked(self.log) - undisturbed) / len(moments)
            differ = {name: [expected[name], found[name]] for name in found if found[name] != expected[name]}
            for moment in moments:
                told = {"what": "node of a Ray cluster", "step": f"{moment}", "killed": True, "differ": differ}
                yield told | {"undisturbed": undisturbed, "work": undisturbed + share}
            left -= len(moments)

    def _moments(self, count: int, songs: int) -> list[Moment]:
        places = sorted(self.draw.sample(range(1, songs), count))
        return [Moment(place, self.draw.uniform(0.0, 0.2)) for place in places]

    def _killed_at(self, moments: Sequence[Moment]) -> None:
        """The main thread kills: Ray starts nodes in no other one, since it sets handlers of signals."""
        with ThreadPoolExecutor(1) as pool:
            built = pool.submit(self._build)
            for moment in moments:
                moment.wait(self.log)
                self.machines.kill_one()
            built.result()

    def _build(self) -> None:
        with InRay(BuildConfig(workers=2)) as engine:
            try:
                build(self.job, engine)
            except SongsFailedError:
                build(self.job, engine)

    def _begin(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.log.unlink(missing_ok=True)


def main() -> None:
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # where Ray prints that a machine died
        for told in Runner(NodePlan(**json.loads(sys.argv[1]))).run():
            answers.write(f"{json.dumps(told)}\n")
            answers.flush()


if __name__ == "__main__":
    main()
