"""How a file of ours becomes visible: whole or not at all, on a local disk (`disk`) or in an object store (`objects`).

Conventions: every write under a root goes through here; a `Place` is a local path or an `ObjectPath`. `create` is a
commit: of two writers one wins. A content-named file may be published twice, since its bytes follow from its name.
"""

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.records import disk, objects
from pipeline.records.entries import ATTEMPT_PREFIX, Entry
from pipeline.records.objects import ObjectPath

Place = Path | ObjectPath
LEASE_SECONDS = 3600.0  # s; an attempt not touched for this long has no living writer. Ours
_BLOCK = 1 << 20  # bytes hashed at a time


class DamageError(PipelineError):
    """A committed file is missing or its bytes are not those that were recorded; names the path and the remedy."""


def place(text: str | os.PathLike[str]) -> Place:
    """A path of this machine, made absolute, or an fsspec URL."""
    if "://" in str(text):
        return ObjectPath(str(text).rstrip("/"))
    return Path(os.path.abspath(Path(text).expanduser()))


def create(path: Place, data: bytes) -> bool:
    """Commit `data` as `path` unless it exists; False, and nothing changed, where another writer was first."""
    return objects.create(path, data) if isinstance(path, ObjectPath) else disk.create(path, data)


def replace(path: Place, data: bytes) -> None:
    """Make `data` the content of `path`; a reader sees the old bytes or the new ones, never a mixture."""
    if isinstance(path, ObjectPath):
        objects.replace(path, data)
    else:
        disk.replace(path, data)


def attempt(path: Place) -> AbstractContextManager[Path]:
    """A local file to fill and `publish` as `path`, removed at the end if its writer did not."""
    return objects.attempt(path) if isinstance(path, ObjectPath) else disk.attempt(path)


def publish(temporary: Path, path: Place) -> None:
    """Give a finished, already fsynced attempt its final name."""
    if isinstance(path, ObjectPath):
        objects.publish(temporary, path)
    else:
        disk.publish(temporary, path)


def remove(paths: Iterable[Place]) -> None:
    """Remove files, those that are gone already too, for good: a power cut brings no name back."""
    found = list(paths)
    disk.remove([path for path in found if isinstance(path, Path)])
    for path in found:
        if isinstance(path, ObjectPath):
            path.unlink(missing_ok=True)


def fetched(path: Place) -> AbstractContextManager[Path]:
    """The file on this machine's disk: itself, or a copy for the time being."""
    return objects.fetched(path) if isinstance(path, ObjectPath) else nullcontext(path)


def entries(directory: Place, prefix: str = "") -> list[Entry]:
    """Files and folders right below `directory` whose name begins with `prefix`, by name; none where it is missing."""
    if isinstance(directory, ObjectPath):
        return objects.entries(directory, prefix)
    return disk.entries(directory, prefix)


def tree(directory: Place) -> Iterator[Entry]:
    """Every file below `directory`, at any depth."""
    return objects.tree(directory) if isinstance(directory, ObjectPath) else disk.tree(directory)


def prepare(root: Place) -> None:
    """Make sure that a root can be written: its folder; `BackendUnavailable` for a store or disk that can't commit."""
    if isinstance(root, ObjectPath):
        objects.check(root)
    else:
        disk.prepare(root)


def version(path: Place) -> str:
    """What changes when the file does; empty where there is none."""
    return objects.version(path) if isinstance(path, ObjectPath) else disk.version(path)


def clock(root: Place) -> float:
    """What time it is for the store that holds `root`, in s since 1970: the time it gives to a file written now."""
    probe = root / f"{ATTEMPT_PREFIX}{uuid.uuid4().hex}-clock"
    prepare(root)
    try:
        create(probe, b"")
        return next(entry.changed for entry in entries(root, probe.name))
    finally:
        probe.unlink(missing_ok=True)


def digest(path: Place) -> tuple[str, int]:
    """(sha256, bytes) of a file."""
    total, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
            size += len(block)
    return total.hexdigest(), size


def remove_attempts(directory: Place, older_than: float = LEASE_SECONDS) -> list[Place]:
    """Remove what killed writers left under `directory`, untouched for `older_than` seconds; the paths removed."""
    limit = clock(directory) - older_than
    left = [
        directory / entry.name
        for entry in tree(directory)
        if entry.name.rpartition("/")[2].startswith(ATTEMPT_PREFIX) and entry.changed <= limit
    ]
    for path in left:
        path.unlink(missing_ok=True)
    return left
