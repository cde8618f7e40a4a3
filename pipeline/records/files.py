"""How a file of ours becomes visible: a temporary name, fsync, then a link (create) or a rename (replace).

Conventions: local POSIX file systems with hard links. Every write under a root goes through here, so that another kind
of storage means another file like this one. Temporary names begin with ``.attempt-``; no reader lists them.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import PipelineError

ATTEMPT_PREFIX = ".attempt-"
LEASE_SECONDS = 3600.0  # s; an attempt not touched for this long has no living writer. Ours
_BLOCK = 1 << 20  # bytes hashed at a time


class DamageError(PipelineError):
    """A committed file is missing or its bytes are not those that were recorded; names the path and the remedy."""


@contextmanager
def attempt(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, removed at the end if its writer did not publish it."""
    _make_directory(path.parent)
    temporary = path.parent / f"{ATTEMPT_PREFIX}{uuid.uuid4().hex}-{path.name}"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def create(path: Path, data: bytes) -> bool:
    """Commit `data` as `path` unless it exists; False, and nothing changed, where another writer was first."""
    with attempt(path) as temporary:
        _write(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    sync_directory(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`; a reader sees the old bytes or the new ones, never a mixture."""
    with attempt(path) as temporary:
        _write(temporary, data)
        publish(temporary, path)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished, already fsynced attempt its final name."""
    os.replace(temporary, path)
    sync_directory(path.parent)


def digest(path: Path) -> tuple[str, int]:
    """(sha256, bytes) of a file."""
    total, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
            size += len(block)
    return total.hexdigest(), size


def remove_attempts(directory: Path, older_than: float = LEASE_SECONDS) -> list[Path]:
    """Remove what killed writers left under `directory`, untouched for `older_than` seconds; the paths removed."""
    limit = time.time() - older_than
    left = [path for path in sorted(directory.rglob(f"{ATTEMPT_PREFIX}*")) if path.stat().st_mtime <= limit]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)
