"""Files of ours on a local disk: a temporary name, fsync, then a link (create) or a rename (replace).

Conventions: POSIX file systems with hard links. Temporary names lie beside the final one and begin with ``.attempt-``.
"""

import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace as replaced
from pathlib import Path

from pipeline.errors import BackendUnavailable
from pipeline.records.entries import ATTEMPT_PREFIX, Entry

_NO_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # of any file on this disk, so it's no single song's failure


class DiskError(BackendUnavailable):
    """The disk is full or may not be written: the run stops, instead of failing song after song."""


@contextmanager
def attempt(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, removed at the end if its writer did not publish it."""
    temporary = path.parent / f"{ATTEMPT_PREFIX}{uuid.uuid4().hex}-{path.name}"
    try:
        make_directory(path.parent)
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in _NO_WRITE:
            raise _refused(path, error) from error
        if error.errno == errno.EFBIG:  # this file alone; what the system says doesn't name it
            remedy = "raise the limit on file sizes (ulimit -f), or take a file system that holds larger files"
            raise OSError(error.errno, f"{error.strerror}; {remedy}", str(path)) from error
        raise


def prepare(root: Path) -> None:
    """Make the folder and write into it; `DiskError` where that can't be done."""
    probe = root / "probe"
    try:
        with attempt(probe) as temporary:
            _write(temporary, b"")
    except OSError as error:
        raise _refused(root, error) from error


def _refused(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path} can't be written: {error.strerror}; free some space or get the right to write, then run the build "
        "again (what is committed stays), or take another root"
    )


def create(path: Path, data: bytes) -> bool:
    with attempt(path) as temporary:
        _write(temporary, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    _sync_directory(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    with attempt(path) as temporary:
        _write(temporary, data)
        publish(temporary, path)


def publish(temporary: Path, path: Path) -> None:
    """Give a finished, already fsynced attempt its final name."""
    os.replace(temporary, path)
    _sync_directory(path.parent)


def remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
    for directory in sorted({path.parent for path in paths}):
        with suppress(FileNotFoundError):
            _sync_directory(directory)


def entries(directory: Path, prefix: str = "") -> list[Entry]:
    """What lies right below a folder, by name; nothing where there is no folder."""
    return sorted(_scan(directory, prefix))


def tree(directory: Path) -> Iterator[Entry]:
    """Every file below a folder, at any depth."""
    for parent, folders, _ in os.walk(directory):
        folders.sort()
        below = os.path.relpath(parent, directory)
        above = "" if below == "." else f"{below}/"
        yield from sorted(replaced(entry, name=above + entry.name) for entry in _scan(Path(parent)) if not entry.folder)


def make_directory(directory: Path) -> None:
    """Like ``mkdir -p``, and the names survive a power cut."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    _sync_directory(directory.parent)


def version(path: Path) -> str:
    try:
        return _version(path.stat())
    except FileNotFoundError:
        return ""


def _version(facts: os.stat_result) -> str:
    return f"{facts.st_mtime_ns}-{facts.st_size}-{facts.st_ino}"


def _scan(directory: Path, prefix: str = "") -> Iterator[Entry]:
    """What lies in a folder; an attempt that goes away meanwhile is left out."""
    with suppress(FileNotFoundError), os.scandir(directory) as found:
        for item in (item for item in found if item.name.startswith(prefix)):
            with suppress(FileNotFoundError):
                facts = item.stat()
                yield Entry(item.name, facts.st_size, facts.st_mtime, _version(facts), item.is_dir())


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
