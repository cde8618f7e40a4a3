"""What a URI holds right now: the hash of its bytes, and a cheap sign of change.

Conventions: a URI is a path of this machine or an fsspec URL (``protocol://...``).
"""

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import fsspec

from pipeline.errors import BackendUnavailable

_BLOCK = 1 << 20  # bytes hashed at a time


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
        with open_uri(uri) as file:
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


def stamp(uri: str) -> str:
    """Size, times and inode of a local file: changes when the file does; empty where that can't be told."""
    if is_url(uri):
        return ""
    try:
        facts = os.stat(uri)
    except OSError:
        return ""
    return f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ctime_ns}-{facts.st_ino}"
