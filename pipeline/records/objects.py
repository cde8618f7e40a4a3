"""Files of ours in an object store: no rename, so an object is whole or absent, and a commit is a conditional create.

Conventions: an `ObjectPath` has of `pathlib.Path` what the records use. Stores that can create an object *only if it is
absent* are taken and no others (S3 with ``If-None-Match: *``, Google's and Azure's by their fsspec packages, and
fsspec's ``memory://`` within one process): without it two writers of one part would overwrite each other. Where the
store is and who asks are the client's own settings (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ``FSSPEC_S3``, ...).
"""

import inspect
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.spec import AbstractFileSystem

from pipeline.errors import BackendUnavailable
from pipeline.records.entries import ATTEMPT_PREFIX, Entry

_PAUSES = (0.1, 0.5, 2.0)  # s between tries of a create that conflicts with another in progress (S3 says 409). Ours
_TIMES = ("LastModified", "last_modified", "updated", "created", "mtime")  # what stores call the time of a change
_TAGS = ("ETag", "etag", "md5Hash")


@dataclass(frozen=True, order=True, slots=True)
class ObjectPath:
    """``protocol://bucket/key``; picklable, and equal where the URL is."""

    url: str

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "ObjectPath":
        return ObjectPath(self.url.rpartition("/")[0])

    @property
    def store(self) -> Any:
        return _store(self.url.partition("://")[0])

    def with_suffix(self, suffix: str) -> "ObjectPath":
        stem, dot, _ = self.name.rpartition(".")
        return self.parent / f"{stem if dot else self.name}{suffix}"

    def exists(self) -> bool:
        return bool(self.store.exists(self.url))

    def is_file(self) -> bool:
        return bool(self.store.isfile(self.url))

    def open(self, mode: str = "rb") -> BinaryIO:
        return cast(BinaryIO, self.store.open(self.url, mode))

    def read_bytes(self) -> bytes:
        return bytes(self.store.cat_file(self.url))

    def unlink(self, missing_ok: bool = False) -> None:
        if self.exists() or not missing_ok:
            self.store.rm_file(self.url)

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Objects and folders right below this one."""
        literal = pattern.partition("*")[0]
        return (self / entry.name for entry in entries(self, literal) if fnmatchcase(entry.name, pattern))


@cache
def _store(protocol: str) -> Any:
    """The client of a protocol, without fsspec's cache of listings: another writer's objects must be seen."""
    try:
        store: Any = fsspec.filesystem(protocol, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise BackendUnavailable(
            f"{protocol}://: no file system for this URL ({error}); for S3 install the extra `s3`, else what it names"
        ) from error
    for kind in type(store).__mro__:
        own = vars(kind).get("_pipe_file") or vars(kind).get("pipe_file")
        if own is not None and kind is not AbstractFileSystem and "mode" in inspect.signature(own).parameters:
            return store
    raise BackendUnavailable(
        f"{protocol}:// can't create an object only if it is absent, so two writers could overwrite each other; "
        "keep the root on a local disk or in S3"
    )


@cache
def check(root: ObjectPath) -> None:
    """`BackendUnavailable` where the store behind a root ignores the condition of a create (some S3 look-alikes do)."""
    probe = root / f"{ATTEMPT_PREFIX}probe-{time.time_ns()}"
    try:
        if create(probe, b"1") and not create(probe, b"2"):
            return
    finally:
        probe.unlink(missing_ok=True)
    raise BackendUnavailable(
        f"{root}: its server overwrites an object where it was asked to create it only if absent (If-None-Match); "
        "two writers would lose data: use another server, or a local disk"
    )


def create(path: ObjectPath, data: bytes) -> bool:
    """Put `data` at `path` if nothing is there; False where something else is.

    Equal bytes count as ours: a client whose answer got lost asks again, and is told of its own object.
    """
    for pause in (*_PAUSES, None):
        try:
            path.store.pipe_file(path.url, data, mode="create")
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:  # FileExistsError, or a server's own word for it
            if path.exists():
                return path.read_bytes() == data
            if pause is None:
                raise
            time.sleep(pause)
        else:
            return True
    raise AssertionError("the last try returns or raises")


def replace(path: ObjectPath, data: bytes) -> None:
    path.store.pipe_file(path.url, data)


@contextmanager
def attempt(path: ObjectPath) -> Iterator[Path]:
    """A local file to fill; `publish` uploads it. What isn't published never reaches the store."""
    with TemporaryDirectory(prefix=ATTEMPT_PREFIX) as folder:
        yield Path(folder) / path.name


def publish(temporary: Path, path: ObjectPath) -> None:
    """Upload a finished file; until its last part is there, the store shows nothing under its name."""
    path.store.put_file(str(temporary), path.url)


@contextmanager
def fetched(path: ObjectPath) -> Iterator[Path]:
    """The object as a local file."""
    with TemporaryDirectory(prefix=ATTEMPT_PREFIX) as folder:
        local = Path(folder) / path.name
        path.store.get_file(path.url, str(local))
        yield local


def entries(directory: ObjectPath, prefix: str = "") -> list[Entry]:
    """What lies right below a folder, by name; with a prefix the server lists only what begins with it."""
    try:
        if prefix:
            found = directory.store.find(directory.url, prefix=prefix, detail=True).values()
        else:
            found = directory.store.ls(directory.url, detail=True)
    except FileNotFoundError:
        return []
    listed = (_entry(directory, info) for info in found)
    return sorted(item for item in listed if item.name.startswith(prefix) and item.name and "/" not in item.name)


def tree(directory: ObjectPath) -> Iterator[Entry]:
    """Every object below a folder, at any depth."""
    found = directory.store.find(directory.url, detail=True).values()
    yield from sorted(entry for info in found if (entry := _entry(directory, info)).name)


def version(path: ObjectPath) -> str:
    try:
        return _entry(path.parent, path.store.info(path.url)).version
    except FileNotFoundError:
        return ""


def _entry(directory: ObjectPath, info: Mapping[str, Any]) -> Entry:
    base = directory.store._strip_protocol(directory.url).rstrip("/")
    name = str(info["name"]).rstrip("/").removeprefix(base).strip("/")
    time_of_change = next((info[key] for key in _TIMES if info.get(key)), 0.0)
    changed = time_of_change.timestamp() if isinstance(time_of_change, datetime) else float(time_of_change)
    tag = next((str(info[key]) for key in _TAGS if info.get(key)), "")
    size = int(info.get("size") or 0)
    return Entry(name, size, changed, f"{changed}-{size}-{tag}", info["type"] == "directory")
