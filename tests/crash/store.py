"""Kills writers to an S3 store at the requests that change it: before one is sent, or while it is under way.

A process of its own like `driver`, with the store in its environment: ``python store.py '{"folder": …}'``; one JSON
line for each kill.
"""

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from faults import together
from forks import forked
from making_samples import make_sample
from plans import StorePlan
from tiny_build import Job, build, outcome, worked, write_library

from pipeline.records import files
from pipeline.records.leftovers import collect
from pipeline.records.sharding import write_manifest, write_shard
from pipeline.records.verify import verify

CHANGES = {"put_object", "create_multipart_upload", "upload_part", "complete_multipart_upload", "delete_object"}
PART_BYTES = 5 * 2**20  # the least that S3 takes, so that a small tar has several
LATE_SECONDS = 0.02  # s after a request was begun


class Requests:
    """Counts what changes the store; this process ends at request `kill_at`, `late` s after its begin."""

    def __init__(self, kill_at: int = 0, late: float = 0.0) -> None:
        self.kill_at, self.late = kill_at, late
        self.told: list[str] = []

    def take(self, method: str, key: str) -> None:
        self.told.append(f"{method} {key.partition('/')[2]}")
        if len(self.told) == self.kill_at and self.late:
            threading.Timer(self.late, _end).start()
        elif len(self.told) == self.kill_at:
            _end()

    def watch(self) -> None:
        """From now on every request of this process counts."""
        import s3fs.core

        call = s3fs.core.S3FileSystem._call_s3

        async def counting(store: Any, method: str, *more: Any, **named: Any) -> Any:
            if method in CHANGES:
                self.take(method, str(named.get("Key", "")))
            return await call(store, method, *more, **named)

        s3fs.core.S3FileSystem._call_s3 = counting
        s3fs.core.calculate_chunksize = lambda size, chunksize=None, **limits: PART_BYTES


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Runner:
    """The same writing, again and again, each time to an empty place."""

    def __init__(self, plan: StorePlan) -> None:
        self.plan, self.draw = plan, random.Random(plan.seed)
        self.library, self.log = Path(plan.folder) / "library", Path(plan.folder) / "log"
        os.environ["CRASH_LOG"] = str(self.log)
        self.library.mkdir()
        write_library(self.library, 3)
        self.act: Callable[[str], None] = self._write_large if plan.large else self._build

    def run(self) -> Iterator[dict[str, Any]]:
        requests: list[str] = forked(lambda: self._watched("whole", Requests())).result
        undisturbed, expected = worked(self.log), self._outcome("whole")
        yield {"outcome": {"wrong": expected["wrong"]}, "told": requests}
        points = list(range(1, len(requests) + 1))
        if self.plan.kills:
            points = sorted(self.draw.sample(points, self.plan.kills))
        for point in points:
            self.log.unlink(missing_ok=True)
            late = self.draw.choice([0.0, self.draw.uniform(0.001, LATE_SECONDS)])
            name = f"killed-{point}"
            killed = forked(lambda name=name, point=point, late=late: self._watched(name, Requests(point, late))).killed
            forked(lambda name=name: self.act(name))
            yield {"step": requests[point - 1], "killed": killed} | self._told(name, expected, undisturbed)
        if not self.plan.large:
            self.log.unlink(missing_ok=True)
            said = together([lambda: self.act("twice")] * 2, 0.0)
            yield {"step": f"{said}", "killed": True} | self._told("twice", expected, 2 * undisturbed)

    def _told(self, name: str, expected: dict[str, Any], undisturbed: int) -> dict[str, Any]:
        found = self._outcome(name)
        differ = {part: [expected[part], found[part]] for part in found if found[part] != expected[part]}
        what = "writer of a large shard to S3" if self.plan.large else "build on S3"
        return {"what": what, "work": worked(self.log), "undisturbed": undisturbed, "differ": differ}

    def _watched(self, name: str, requests: Requests) -> list[str]:
        requests.watch()
        self.act(name)
        return requests.told

    def _root(self, name: str) -> str:
        return f"{self.plan.bucket}/{Path(self.plan.folder).name}-{name}"

    def _build(self, name: str) -> None:
        build(Job(self._root(name), str(self.library), batch_size=3))

    def _write_large(self, name: str) -> None:
        directory = files.place(self._root(name)) / "datasets" / "demo"
        samples = [make_sample(f"{n:032x}-orig", seed=n, phases=64, seconds=400.0) for n in range(3)]
        sidecar = write_shard(directory, "train-stage1", 0, samples, "c0", "i0")
        write_manifest(directory, "demo", "c0", [sidecar], {})

    def _outcome(self, name: str) -> dict[str, Any]:
        root = files.place(self._root(name))

        def look() -> dict[str, Any]:
            collect(root, lease_hours=0)  # moto says of an upload that it was begun years ago, so verify would name it
            if not self.plan.large:
                return outcome(root)
            wrong = [str(problem) for problem in verify(root / "datasets" / "demo")]
            return {"wrong": wrong, "files": {e.name: files.digest(root / e.name)[0] for e in files.tree(root)}}

        told: dict[str, Any] = forked(look).result
        return told


def main() -> None:
    for told in Runner(StorePlan(**json.loads(sys.argv[1]))).run():
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
