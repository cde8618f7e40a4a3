"""Bringing an asset onto this machine: from its origin or a mirror, checked, converted, and written down.

Conventions: a mirror is a folder or URL laid out like the store (so another machine's store is one). The receipt is the
commit: it is written last, and it pins what the table leaves open, so a second pull must find the same bytes.
"""

import fcntl
import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.assets.check import landed_at, misfit
from pipeline.assets.download import Patience, Progress, download, land, part_of
from pipeline.assets.store import (
    BLOCK,
    RECEIPT,
    Receipt,
    asset,
    fault_of,
    folder_of,
    landed_files,
    read_receipt,
    receipt_text,
    remedy,
    root,
)
from pipeline.assets.table import Asset, File, Hub, Manual, Package, Web
from pipeline.errors import BackendUnavailable

_SHA256 = re.compile(r'"?(?P<sha256>[0-9a-f]{64})"?')  # the hub's tag of a large file


PATIENT = Patience()


@dataclass(frozen=True, slots=True)
class Terms:
    """How to pull."""

    accept_licence: bool = False
    offline: bool = False  # the mirror alone
    mirror: str = ""  # folder or URL laid out like a store; empty = none
    patience: Patience = PATIENT
    check: bool = True  # against the table's sizes and hashes; off for stand-ins of tests


@dataclass(frozen=True, slots=True)
class _Arrived:
    """A file that lies in its ``.part`` (or is there already), and what its server said of it."""

    part: Path
    announced: str = ""  # SHA-256, by the hub
    revision: str = ""  # the hub's commit


def pull(name: str, terms: Terms, progress: Progress) -> bool:
    """Make sure the asset is on this machine; False where it already was. `BackendUnavailable`: one clear sentence."""
    wanted = asset(name)
    if not fault_of(wanted):
        return False
    if isinstance(wanted.origin, Package):
        raise BackendUnavailable(f"{fault_of(wanted)}; {remedy(wanted)}")
    if not wanted.commercial and not terms.accept_licence:
        raise BackendUnavailable(
            f"{wanted.what} ({wanted.name}) comes under {wanted.licence}, which allows no commercial use; read "
            f"{wanted.about}, then: {remedy(wanted)}"
        )
    folder = root() / wanted.name
    with _disk(folder), _alone(folder):
        if fault_of(wanted):  # still, now that nobody else is at it
            _bring(wanted, folder, terms, progress)
    return True


def install(name: str, source: Path, check: bool = True) -> None:
    """Take an asset's files from a folder, licence accepted, as a pull from a mirror would."""
    wanted = asset(name)
    folder = root() / wanted.name
    with _disk(folder), _alone(folder):
        for file in wanted.files:
            part = part_of(folder / file.path)
            part.parent.mkdir(parents=True, exist_ok=True)
            _copy(source / file.path, part, lambda done, size: None)
        terms = Terms(accept_licence=True, check=check)
        _commit(wanted, folder, terms, [_Arrived(part_of(folder / file.path)) for file in wanted.files])


def verify(name: str) -> str:
    """Hash every file anew; what is wrong, in one clause, or empty."""
    wanted = asset(name)
    if fault := fault_of(wanted):
        return fault
    folder = folder_of(wanted)
    assert folder is not None
    for path, landed in landed_files(wanted).items():
        with (folder / path).open("rb") as file:
            if landed.sha256 and hashlib.file_digest(file, "sha256").hexdigest() != landed.sha256:
                return (
                    f"{wanted.what} ({wanted.name}): file {folder / path} has another SHA-256 than when it was pulled"
                )
    return ""


def _bring(wanted: Asset, folder: Path, terms: Terms, progress: Progress) -> None:
    """Every file that is not there as it was first pulled."""
    pinned, arrived = read_receipt(wanted), []
    _require_room(wanted, folder, terms)
    for file in wanted.files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        known = pinned.files.get(file.path) if pinned is not None else None
        kept = known is not None and target.is_file() and landed_at(target).sha256 == known.sha256
        arrived.append(_Arrived(target) if kept else _fetch(wanted, file, target, terms, progress))
    _commit(wanted, folder, terms, arrived)


def _fetch(wanted: Asset, file: File, target: Path, terms: Terms, progress: Progress) -> _Arrived:
    """The file's bytes into its ``.part``, from the mirror where it has them, else from the origin."""
    if source := _in_mirror_folder(wanted, file, terms):
        return _copy(source, part_of(target), progress)
    if "://" in terms.mirror:
        url = f"{terms.mirror.rstrip('/')}/{wanted.name}/{file.path}"
        download(url, target, {}, terms.patience, progress)
        return _Arrived(part_of(target))
    if terms.offline or isinstance(wanted.origin, Manual):
        raise BackendUnavailable(_no_source(wanted, file, terms))
    if isinstance(wanted.origin, Hub):
        return _from_hub(wanted.origin, file, target, terms, progress)
    assert isinstance(wanted.origin, Web)
    download(file.url or f"{wanted.origin.base}/{file.path}", target, {}, terms.patience, progress)
    return _Arrived(part_of(target))


def _in_mirror_folder(wanted: Asset, file: File, terms: Terms) -> Path | None:
    """Where the mirror is a folder that has the file."""
    if not terms.mirror or "://" in terms.mirror:
        return None
    source = Path(terms.mirror).expanduser() / wanted.name / file.path
    return source if source.is_file() else None


def _from_hub(origin: Hub, file: File, target: Path, terms: Terms, progress: Progress) -> _Arrived:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers

    url = hf_hub_url(origin.repo, file.path, revision=origin.revision)
    told = download(url, target, build_hf_headers(), terms.patience, progress)
    tag = _SHA256.fullmatch(told.get("X-Linked-ETag", ""))
    return _Arrived(part_of(target), tag["sha256"] if tag else "", told.get("X-Repo-Commit", ""))


def _copy(source: Path, part: Path, progress: Progress) -> _Arrived:
    if not source.is_file():
        raise BackendUnavailable(f"{source} is missing; the folder must hold the files as `backline assets list` names")
    size = source.stat().st_size
    with source.open("rb") as old, part.open("wb") as new:
        while chunk := old.read(BLOCK):
            new.write(chunk)
            progress(new.tell(), size)
    return _Arrived(part)


def _commit(wanted: Asset, folder: Path, terms: Terms, arrived: list[_Arrived]) -> None:
    """Check all files, convert what is a pickle, then give them their names and write the receipt."""
    pinned = read_receipt(wanted)
    for file, came in zip(wanted.files, arrived, strict=True):
        before = pinned.files.get(file.path) if pinned is not None else None
        if terms.check and (fault := misfit(file, came.part, came.announced, before)):
            came.part.unlink()  # else the next attempt would go on at its end
            raise BackendUnavailable(f"{wanted.what} ({wanted.name}): {file.path} {fault}; nothing of it was kept")
    for file, came in zip(wanted.files, arrived, strict=True):
        if file.format == "pickle":
            _convert(wanted, file, came.part, folder)
    for file, came in zip(wanted.files, arrived, strict=True):
        if came.part != folder / file.path:
            land(came.part, folder / file.path)
    names = [file.path for file in wanted.files] + [file.tensors for file in wanted.files if file.format == "pickle"]
    landed = {name: landed_at(folder / name) for name in names}
    revision = next((came.revision for came in arrived if came.revision), "")
    receipt = Receipt(landed, wanted.licence, terms.accept_licence and not wanted.commercial, revision)
    part_of(folder / RECEIPT).write_text(receipt_text(receipt), encoding="utf-8")
    land(part_of(folder / RECEIPT), folder / RECEIPT)


def _convert(wanted: Asset, file: File, came: Path, folder: Path) -> None:
    """The tensors of a pickle that arrived, beside the place that it will have."""
    from pipeline.assets.inert import convert

    try:
        convert(came, file.outer, folder / file.tensors)
    except BackendUnavailable as error:
        if came != folder / file.path:
            came.unlink()
        raise BackendUnavailable(f"{wanted.what} ({wanted.name}): {error}; nothing of it was kept") from error


def _require_room(wanted: Asset, folder: Path, terms: Terms) -> None:
    """Twice the size of what will be converted; what lies in a mirror's folder is as large as it is there."""

    def size(file: File) -> int:
        source = _in_mirror_folder(wanted, file, terms)
        return source.stat().st_size if source else file.size

    need = sum(size(file) * (2 if file.format == "pickle" else 1) for file in wanted.files)
    free = shutil.disk_usage(folder).free
    if need > free:
        raise BackendUnavailable(
            f"{wanted.what} ({wanted.name}) needs {need / 1e9:.1f} GB, {root()} has {free / 1e9:.1f} GB free; "
            "free some space, or set BACKLINE_ASSETS to a folder on another disk"
        )


def _no_source(wanted: Asset, file: File, terms: Terms) -> str:
    place = f"mirror {terms.mirror} has no {wanted.name}/{file.path}" if terms.mirror else "no mirror was named"
    if isinstance(wanted.origin, Manual):
        return (
            f"{wanted.what} ({wanted.name}): {wanted.origin.how}; put it into FOLDER/{wanted.name}/{file.path}, then "
            f"{remedy(wanted)} --mirror FOLDER ({place})"
        )
    return f"{wanted.what} ({wanted.name}): offline, and {place}; pull without --offline, or give --mirror"


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """What the disk refuses, in one sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise BackendUnavailable(
            f"{error.filename or folder} can't be written: {error.strerror}; free some space, get the right to write, "
            "or set BACKLINE_ASSETS to another folder"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One pull of an asset at a time on a machine; the others wait, and then find it there."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
