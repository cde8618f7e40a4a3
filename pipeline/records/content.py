"""What a URI holds right now: the hash of its bytes, and a cheap sign of change.

Conventions: a URI is a path of this machine or an fsspec URL (``protocol://...``).
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import fsspec
from fsspec.core import url_to_fs

from pipeline.errors import BackendUnavailable, PipelineError

_BLOCK = 1 << 20  # bytes hashed at a time
# What fsspec's file systems (http, s3fs, gcsfs, adlfs, sftp, memory) call a hash of the content and a time of change.
_CHANGES = (
    "ETag", "etag", "Content-MD5", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Content:
    """Facts about bytes; `error` is the slug of why there are none, with a message for people."""

    sha256: str = ""
    bytes: int = 0
    error: str = ""  # missing, empty, unreadable
    message: str = ""


def is_url(uri: str) -> bool:
    return "://" in uri


def open_uri(uri: str) -> AbstractContextManager[BinaryIO]:
    """A URI opened for reading; `BackendUnavailable` if no file system is installed for its protocol."""
    if not is_url(uri):
        return Path(uri).open("rb")
    try:
        return cast(AbstractContextManager[BinaryIO], fsspec.open(uri, "rb"))
    except (ImportError, ValueError) as error:
        raise BackendUnavailable(f"{uri}: no file system for this URL ({error}); install what it names") from error


def read_content(uri: str) -> Content:
    """Hash every byte of a URI; what can't be read is an answer, not an exception."""
    total, size = hashlib.sha256(), 0
    try:
        with client_errors(uri), open_uri(uri) as file:
            while block := file.read(_BLOCK):
                total.update(block)
                size += len(block)
    except FileNotFoundError:
        return Content(error="missing", message=f"{uri} does not exist; restore it or take it out of the library")
    except OSError as error:
        return Content(
            error="unreadable", message=f"{uri} can't be read: {error}; mend it or take it out of the library"
        )
    if not size:
        return Content(error="empty", message=f"{uri} has 0 bytes; copy it again or take it out of the library")
    return Content(total.hexdigest(), size)


@contextmanager
def client_errors(uri: str) -> Iterator[None]:
    """Whatever a URL's client raises (aiohttp, botocore, ... each its own) leaves as `OSError`."""
    try:
        yield
    except (PipelineError, OSError):
        raise
    except Exception as error:
        if not is_url(uri):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from error


def stamp(uri: str) -> str:
    """What changes when the content does, without reading it; empty where that can't be told.

    Size, times and inode of a local file; of a URL its size with the hash (ETag) or the time that its server gives.
    """
    if is_url(uri):
        return _remote_stamp(uri)
    try:
        facts = os.stat(uri)
    except OSError:
        return ""
    return f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ctime_ns}-{facts.st_ino}"


def _remote_stamp(uri: str) -> str:
    try:
        with client_errors(uri):
            filesystem, path = url_to_fs(uri)
            facts = filesystem.info(path)
    except OSError:
        return ""
    said = [f"{name}={facts[name]}" for name in _CHANGES if facts.get(name)]
    return f"{facts.get('size')}-{'-'.join(said)}" if said else ""  # a size alone can stay while bytes change


def still_holds(uri: str, known: str, seen: str, sha256: str) -> bool:
    """Whether a URI holds the bytes of that hash: by its stamps (`known` of those bytes, `seen` now), for nothing.

    Bytes are hashed only where the stamps differ, as those of a file that was touched or is looked at from another
    machine do. True where nothing was known.
    """
    return not known or seen == known or read_content(uri).sha256 == sha256
