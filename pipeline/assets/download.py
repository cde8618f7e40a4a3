"""One URL -> one file, whole or not at all: resumed after a cut, checked, fsynced, renamed.

Conventions: what has arrived lies in ``<name>.part`` beside the target, with the server's validator in ``<name>.tag``;
a later call goes on there while the server still has the same file (``If-Range``), else it begins again. No answer is
trusted by its status: the number of bytes must be the one that the server announced.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from pipeline.errors import BackendUnavailable

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Bytes that are there, bytes in all (0 = the server doesn't say)."""

_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<size>\d+|\*)")
_REFUSED = {
    401: "the server wants to know who asks: log in with `hf auth login`",
    403: "the server gives it only to those whom its owner let in: ask on its page, then `hf auth login`",
    404: "there is no such file",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a download may hang, and how often it is tried."""

    seconds: float = 30.0  # without an answer or a byte; ours: a hub answers within 1 s
    attempts: int = 5  # in a row without one more byte; ours
    pause: float = 1.0  # s before the second attempt, doubled each time; ours


class _Broken(Exception):
    """This attempt ended early; another may go on where it stopped."""


def download(
    url: str, target: Path, headers: Mapping[str, str], patience: Patience, progress: Progress
) -> httpx.Headers:
    """Fetch into ``<target>.part``; the first answer's headers (before redirects), for what they tell of the file.

    `BackendUnavailable` where the server refuses, or keeps silent or broken over all attempts.
    """
    part, tag = part_of(target), target.with_name(f"{target.name}.tag")
    tried, reached = 0, _size(part)
    while True:
        try:
            with httpx.Client(follow_redirects=True, timeout=patience.seconds, headers=dict(headers)) as client:
                return _attempt(client, url, part, tag, progress)
        except (httpx.TransportError, _Broken) as error:
            tried = 1 if _size(part) > reached else tried + 1
            reached = _size(part)
            if tried >= patience.attempts:
                raise BackendUnavailable(_gave_up(url, error, reached, patience)) from error
            logger.info("%s: %s; going on at byte %d", url, error or type(error).__name__, reached)
            time.sleep(patience.pause * 2 ** (tried - 1))
        except (httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise BackendUnavailable(f"{url} can't be fetched: {error}") from error


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def land(part: Path, target: Path) -> None:
    """Give a whole and checked file its name; it survives a power cut."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    target.with_name(f"{target.name}.tag").unlink(missing_ok=True)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _attempt(client: httpx.Client, url: str, part: Path, tag: Path, progress: Progress) -> httpx.Headers:
    have, validator = _size(part), _read(tag)
    asked = {"Range": f"bytes={have}-", "If-Range": validator} if have and validator else {}
    with client.stream("GET", url, headers={**asked, "Accept-Encoding": "identity"}) as answer:
        if answer.status_code == 416:
            if str(answer.headers.get("Content-Range", "")) == f"bytes */{have}":  # nothing is left to send
                return _first(answer).headers
            part.unlink(missing_ok=True)
            raise _Broken("the file on the server is another one now")
        start = _start(answer, url, have)
        size = _announced(answer, start)
        if not start:
            part.unlink(missing_ok=True)  # first: old bytes beside a new tag would be gone on with
        tag.write_text(_validator(answer), encoding="utf-8")
        _append(answer, part, start, size, progress)
    if size and _size(part) != size:
        raise _Broken(f"the connection ended at byte {_size(part)} of {size}")
    return _first(answer).headers


def _append(answer: httpx.Response, part: Path, start: int, size: int, progress: Progress) -> None:
    with part.open("r+b" if start else "wb") as file:
        file.truncate(start)
        file.seek(start)
        for chunk in answer.iter_raw():  # as it comes: what a cut connection brought is kept
            file.write(chunk)
            progress(file.tell(), size)


def _start(answer: httpx.Response, url: str, have: int) -> int:
    """Byte at which the answer begins; `_Broken` where trying again may help, `BackendUnavailable` where not."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise BackendUnavailable(f"{url}: the server sends it compressed, though it was asked not to; use a mirror")
    if answer.status_code == 206:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if found is None or int(found["start"]) != have:
            raise BackendUnavailable(f"{url}: the server sent another part of the file than it was asked for")
        return have
    if answer.status_code == 200:
        return 0
    if answer.status_code in (408, 429) or answer.status_code >= 500:
        raise _Broken(f"the server answers {answer.status_code} {answer.reason_phrase}")
    told = _REFUSED.get(answer.status_code, f"the server answers {answer.status_code} {answer.reason_phrase}")
    raise BackendUnavailable(f"{url}: {told}")


def _announced(answer: httpx.Response, start: int) -> int:
    """Bytes of the whole file; 0 where the server doesn't say."""
    found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if found and found["size"] != "*":
        return int(found["size"])
    return start + int(answer.headers.get("Content-Length") or -start)


def _validator(answer: httpx.Response) -> str:
    """What tells this version of the file from another; weak tags can't (RFC 9110, 13.1.5)."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(answer.headers.get("Last-Modified", ""))


def _first(answer: httpx.Response) -> httpx.Response:
    return answer.history[0] if answer.history else answer


def _gave_up(url: str, error: Exception, reached: int, patience: Patience) -> str:
    told = f"no answer for {patience.seconds:g} s" if isinstance(error, httpx.TimeoutException) else str(error)
    return (
        f"{url} can't be fetched: {told or type(error).__name__}, {patience.attempts} times; "
        f"the {reached} bytes that came stay, the same command goes on there"
    )


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _read(path: Path) -> str:
    with suppress(FileNotFoundError):
        return path.read_text(encoding="utf-8")
    return ""
