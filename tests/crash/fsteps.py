"""Counts the steps that a process takes in the file system below one folder, and ends it with SIGKILL at the n-th.

Conventions: only for a process that is meant to die: what is patched here stays patched. A step is a call that changes
what the next process finds: open to write, one raw write, fsync, link, rename, unlink, mkdir, rmdir. The process dies
before the n-th; in a write, half of its bytes are out. `power_cut` is worse than a kill: whatever was not fsynced when
the process died (bytes of a file; names of a directory) is gone as well, as POSIX allows.
"""

import io
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_RANDOM = re.compile(r"\.attempt-[0-9a-f]{32}-")
_OPEN, _LINK, _REPLACE, _UNLINK, _FSYNC = io.open, os.link, os.replace, os.unlink, os.fsync


@dataclass
class Steps:
    """What was done so far below `root`; the process ends itself at step `kill_at`, counted from 1."""

    root: Path
    stash: Path  # on the same disk, outside root: what a power cut brings back
    kill_at: int = 0  # 0: never
    power_cut: bool = False
    told: list[str] = field(default_factory=list)  # "link stages/detection-0a1b2c3d/part-00000.parquet"
    names: list[tuple[str, Callable[[], None]]] = field(default_factory=list)  # directory -> how to undo a change in it
    bytes: dict[int, int] = field(default_factory=dict)  # inode -> handle of a file with bytes that are not fsynced

    def below(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and f"{os.fspath(path)}/".startswith(f"{self.root}/")

    def take(self, what: str, path: Any) -> bool:
        """Note a step; True where the process must end in it."""
        self.told.append(f"{what} {_RANDOM.sub('.attempt-', os.path.relpath(path, self.root))}")
        return len(self.told) == self.kill_at

    def end(self) -> None:
        """The end of this process, and of its machine's memory where the power goes too."""
        if self.power_cut:
            for handle in self.bytes.values():
                os.ftruncate(handle, 0)
            for _, undo in reversed(self.names):
                undo()
        os.kill(os.getpid(), signal.SIGKILL)

    def changed(self, path: Any, undo: Callable[[], None]) -> None:
        """A name below root changed, and isn't on the disk yet."""
        if self.power_cut:
            self.names.append((os.path.dirname(os.fspath(path)), undo))

    def keep(self, path: Any) -> Callable[[], None]:
        """How to bring back what `path` holds now."""
        if not self.power_cut or not os.path.exists(path):
            return lambda: None
        copy = self.stash / f"{os.getpid()}-{len(self.told)}"
        _LINK(path, copy)
        return lambda: _LINK(copy, path)


class _Raw(io.FileIO):
    """A file whose every write is a step."""

    steps: Steps

    def write(self, data: Any) -> int:
        steps, mine = type(self).steps, memoryview(data).cast("B")
        if steps.take("write", self.name):
            super().write(mine[: len(mine) // 2])
            steps.end()
        inode = os.fstat(self.fileno()).st_ino
        if steps.power_cut and inode not in steps.bytes:
            steps.bytes[inode] = os.dup(self.fileno())
        return super().write(mine)


def watch(steps: Steps) -> None:
    """From now on every step of this process below the root counts."""
    _Raw.steps = steps

    def counting_open(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        if not steps.below(file) or not set(mode) & set("wxa+"):
            return _OPEN(file, mode, *more, **named)
        if steps.take("open", file):
            steps.end()
        raw = _Raw(os.fspath(file), mode.replace("b", ""))
        steps.changed(file, lambda: _UNLINK(file))
        return io.BufferedWriter(raw)

    io.open = counting_open  # type: ignore[assignment]
    for name, before in _changes(steps).items():
        _count(steps, name, before)
    _count_fsync(steps)


def _changes(steps: Steps) -> dict[str, Callable[..., Callable[[], None]]]:
    """Step -> what to call before it; it gives the way back."""

    def replace(source: Any, target: Any) -> Callable[[], None]:
        old = steps.keep(target)

        def undo() -> None:
            _REPLACE(target, source)
            old()

        return undo

    return {
        "link": lambda source, target: lambda: _UNLINK(target),
        "replace": replace,
        "unlink": steps.keep,
        "mkdir": lambda path, *mode: lambda: shutil.rmtree(path),
        "rmdir": lambda path: lambda: os.mkdir(path),
    }


def _count(steps: Steps, name: str, before: Callable[..., Callable[[], None]]) -> None:
    original = getattr(os, name)

    def counting(*paths: Any, **named: Any) -> Any:
        if not steps.below(paths[-1] if name in ("link", "replace") else paths[0]):
            return original(*paths, **named)
        target = paths[1] if name in ("link", "replace") else paths[0]
        if steps.take(name, target):
            steps.end()
        undo = before(*paths)
        result = original(*paths, **named)
        steps.changed(target, undo)
        return result

    setattr(os, name, counting)


def _count_fsync(steps: Steps) -> None:
    def counting(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if steps.below(path):
            if steps.take("fsync", path):
                steps.end()
            steps.names = [(directory, undo) for directory, undo in steps.names if directory != path]
            if (kept := steps.bytes.pop(os.fstat(handle).st_ino, None)) is not None:
                os.close(kept)
        _FSYNC(handle)

    os.fsync = counting
