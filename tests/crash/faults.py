"""What happens to builds besides kills: no space, a clock put back, two at once, no right to write. As `driver`, a
process of its own with one thread: ``python faults.py FOLDER``; one JSON line for each fault.
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from forks import forked
from fsteps import Steps, watch
from tiny_build import Job, build, outcome, worked, write_library

from pipeline.records import ledger

CHANGED = "tokenization.variants=2"  # changes tokens, and with them the train shards, and nothing before
SONGS, MORE = 4, 6


class Faults:
    """One library; every fault has a root of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.library = folder, folder / "library"
        self.library.mkdir()
        write_library(self.library, SONGS)
        self.draw = random.Random(7)

    def job(self, name: str, *settings: str) -> Job:
        return Job(str(self.folder / name), str(self.library), settings)

    def outcome(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = forked(lambda: outcome(self.folder / name)).result
        return told

    def fresh(self, name: str, *settings: str) -> dict[str, Any]:
        """What an undisturbed build makes."""
        log(self.folder, name)
        forked(lambda: build(self.job(name, *settings)))
        return {"work": worked(log(self.folder, name)), "outcome": self.outcome(name)}

    def run(self) -> Iterator[dict[str, Any]]:
        yield {"fault": "none", **self.fresh("whole")}
        yield {"fault": "none, changed", **self.fresh("whole-changed", CHANGED)}
        yield from (self.file_limit(size) for size in (500, 3000, 6000, 20_000, 50_000))
        yield self.clock()
        yield from (self.at_once(number) for number in range(4))
        yield from self.edited()
        yield from self.mounted()
        yield self.other_recipe_at_once()

    def file_limit(self, size: int) -> dict[str, Any]:
        """No file may be larger: what a full disk does, at another place for each size. Then there is space again."""
        name = f"limit-{size}"
        told = said(partial(self._limited, self.job(name), size))
        forked(lambda: build(self.job(name)))
        return {"fault": "file limit", "size": size, "said": told, "outcome": self.outcome(name)}

    def _limited(self, job: Job, size: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        build(job)

    def clock(self) -> dict[str, Any]:
        """The clock runs back all the time, is killed in the middle, and is ten years back at the next build."""
        name = "clock"
        for start, songs in ((time.time(), 20), (time.time() - 315e6, 10_000)):
            forked(partial(self._back_in_time, self.job(name), start, songs))
            for path in (self.folder / name).rglob("*"):
                moment = time.time() + self.draw.uniform(-3e8, 3e8)
                os.utime(path, (moment, moment))
        return {"fault": "clock", "outcome": self.outcome(name)}

    def _back_in_time(self, job: Job, start: float, songs: int) -> None:
        """Each look at the clock is an hour before the last one."""
        now = [start]

        def back() -> float:
            now[0] -= 3600.0
            if (
                len(log(self.folder, "clock").read_text().splitlines() if log(self.folder, "clock").exists() else ())
                > songs
            ):
                os.kill(os.getpid(), signal.SIGKILL)
            return now[0]

        class Back(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return datetime.fromtimestamp(back(), tz)

        time.time, ledger.datetime = back, Back
        build(job)

    def at_once(self, number: int) -> dict[str, Any]:
        """Two builds of the same dataset, one a little later."""
        name = f"twice-{number}"
        log(self.folder, name)
        delay = self.draw.uniform(0.0, 0.5)
        told = together([partial(build, self.job(name)), partial(build, self.job(name))], delay)
        return {"fault": "two at once", "said": told, "outcome": self.outcome(name)}

    def other_recipe_at_once(self) -> dict[str, Any]:
        """Two builds of one dataset with different settings; then each again alone."""
        name, told = "other", []
        for _ in range(3):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            told += together([partial(build, self.job(name)), partial(build, self.job(name, CHANGED))], 0.0)
        forked(lambda: build(self.job(name)))
        return {"fault": "two recipes at once", "said": told, "outcome": self.outcome(name)}

    def edited(self) -> Iterator[dict[str, Any]]:
        """A build that is killed after a share of its steps in the file system goes on with another recipe."""
        steps = len(forked(lambda: self._watched(self.job("steps"), 0)).result)
        yield from (self._edited(f"edited-{share}", round(share * steps)) for share in (0.4, 0.75, 0.95))

    def _edited(self, name: str, step: int) -> dict[str, Any]:
        log(self.folder, name)
        killed = forked(lambda: self._watched(self.job(name), step)).killed
        before = [line.split() for line in log(self.folder, name).read_text().splitlines()]
        forked(lambda: build(self.job(name, CHANGED)))
        after = [line.split() for line in log(self.folder, name).read_text().splitlines()[len(before) :]]
        again = [name for name, track in after if [name, track] in before]
        return {
            "fault": "edited", "killed": killed, "again": sorted(again), "before": sorted({name for name, _ in before}),
            "dataset": dataset(self.outcome(name)),
        }  # fmt: skip

    def _watched(self, job: Job, kill_at: int) -> list[str]:
        log(self.folder, Path(job.root).name)
        steps = Steps(Path(job.root), self.folder, kill_at)
        watch(steps)
        build(job)
        return steps.told

    def mounted(self) -> Iterator[dict[str, Any]]:
        """A file system that is full, then larger; one that can't be written."""
        place = self.folder / "mount"
        place.mkdir()
        for size in (200, 400, 600):
            if problem := mount(place, f"size={size}k"):
                yield {"fault": "full disk", "skipped": problem}
                return
            try:
                yield self._full(place, size)
                mount(place, "remount,ro")
                yield {"fault": "read-only", "said": said(partial(build, self.job("mount/root")))}
                yield {"fault": "read-only", "said": said(partial(build, self.job("mount/new")))}
            finally:
                subprocess.run(["umount", str(place)], check=True)

    def _full(self, place: Path, size: int) -> dict[str, Any]:
        told = said(partial(build, self.job("mount/root")))
        mount(place, "remount,size=64m")
        forked(lambda: build(self.job("mount/root")))
        return {"fault": "full disk", "size": size, "said": told, "outcome": self.outcome("mount/root")}


def dataset(found: dict[str, Any]) -> dict[str, str]:
    return {name: digest for name, digest in found["files"].items() if name.startswith("datasets")}


def log(folder: Path, name: str) -> Path:
    path = folder / f"{name}.log"
    os.environ["CRASH_LOG"] = str(path)
    return path


def mount(place: Path, options: str) -> str:
    """Mount or remount a file system in memory; why not, where that is impossible."""
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError as error:
        return str(error)
    return done.stderr.strip()


def said(function: Callable[[], object]) -> str:
    """The error in which it ends, as a user sees it; empty where it succeeds."""

    def go() -> str:
        try:
            function()
        except Exception as error:  # noqa: BLE001  # told to the test
            return f"{type(error).__name__}: {error}"
        return ""

    told: str = forked(go).result
    return told


def together(functions: list[Callable[[], object]], delay: float) -> list[str]:
    """Each in a process of its own, at once; how they ended."""
    children = []
    for number, function in enumerate(functions):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            time.sleep(delay * number)
            told = "died"
            try:
                function()
                told = ""
            except Exception as error:  # noqa: BLE001  # told to the test
                told = f"{type(error).__name__}: {error}"
            os.write(writer, told.encode()[:4000])
            os._exit(0)
        os.close(writer)
        children.append((child, reader))
    ends = []
    for child, reader in children:
        with os.fdopen(reader) as pipe:
            ends.append(pipe.read())
        os.waitpid(child, 0)
    return ends


def main() -> None:
    for told in Faults(Path(sys.argv[1])).run():
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
