"""What killed writers leave behind, told from what is committed; `collect` removes what no living writer can own.

Conventions: committed is what a ledger row names, what has its sidecar, and every catalog, ledger and manifest file.
To remove something, its age is told by the clock of the store that holds it, never by this machine's.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.records import files
from pipeline.records.entries import ATTEMPT_PREFIX, Entry
from pipeline.records.files import Place
from pipeline.records.ledger import Ledger
from pipeline.records.objects import ObjectPath
from pipeline.records.sharding import SHARD_NAME

LEASE_HOURS = 24.0  # h; longer than any stage works on one batch, so nothing that old has a living writer. Ours
Kind = Literal["attempt", "shard", "artefact", "upload"]
WHAT: dict[Kind, str] = {
    "attempt": "a file that its writer did not finish",
    "shard": "a tar without its sidecar",
    "artefact": "audio or arrays that no ledger row names",
    "upload": "an upload that its writer did not finish",
}


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that is not committed: of a killed writer, or of one at work."""

    path: Place
    kind: Kind
    bytes: int  # 0 for an upload: its server doesn't say
    age: float  # s since it was last written, by the store's clock; negative if that clock was put back
    upload: str = ""  # the server's name of an upload


def leftovers(root: Place, now: float) -> list[Leftover]:
    """All that is not committed under the root of a build; ages are counted to `now`, s since 1970."""
    found = [*unfinished(root, now), *_bare_shards(root, now), *_unnamed_artefacts(root, now)]
    return [*found, *_uploads(root, now)]


def collect(root: Place, lease_hours: float = LEASE_HOURS, dry_run: bool = False) -> list[Leftover]:
    """Remove leftovers older than the lease; what was, or would be, removed."""
    if lease_hours < 0:
        raise ValueError(f"a lease of {lease_hours} hours: it must be 0 or more")
    old = [item for item in leftovers(root, files.clock(root)) if item.age > lease_hours * 3600]
    for item in () if dry_run else old:
        if item.kind != "shard" or not item.path.with_suffix(".json").exists():  # not committed while we looked
            _remove(item)
    return old


def remove_unfinished(root: Place) -> None:
    """Remove every unfinished file and upload, however young: only while no build writes here."""
    for item in (*unfinished(root, 0.0), *_uploads(root, 0.0)):
        _remove(item)


def unfinished(root: Place, now: float) -> Iterator[Leftover]:
    """Files under a temporary name."""
    for entry in files.tree(root):
        if _base(entry).startswith(ATTEMPT_PREFIX):
            yield Leftover(root / entry.name, "attempt", entry.bytes, now - entry.changed)


def _bare_shards(root: Place, now: float) -> Iterator[Leftover]:
    for folder in (entry for entry in files.entries(root / "datasets") if entry.folder):
        directory = root / "datasets" / folder.name
        found = {entry.name: entry for entry in files.entries(directory)}
        for name, entry in found.items():
            bare = name.endswith(".tar") and f"{name.removesuffix('.tar')}.json" not in found
            if bare and SHARD_NAME.fullmatch(name):
                yield Leftover(directory / name, "shard", entry.bytes, now - entry.changed)


def _unnamed_artefacts(root: Place, now: float) -> Iterator[Leftover]:
    ledger = Ledger(root)
    for stage, key in ledger.stages():
        directory = ledger.directory(stage, key)
        kept = [entry for kind in ("audio", "arrays") for entry in _below(directory, kind)]
        named = ledger.artefact_paths(stage, key)  # read after the listing: what was committed meanwhile counts
        for entry in kept:
            if entry.name not in named and not _base(entry).startswith(ATTEMPT_PREFIX):
                yield Leftover(directory / entry.name, "artefact", entry.bytes, now - entry.changed)


def _below(directory: Place, folder: str) -> Iterable[Entry]:
    for entry in files.tree(directory / folder):
        yield Entry(f"{folder}/{entry.name}", entry.bytes, entry.changed, entry.version)


def _base(entry: Entry) -> str:
    return entry.name.rpartition("/")[2]


def _uploads(root: Place, now: float) -> Iterator[Leftover]:
    """Multipart uploads that were begun below an S3 root and neither completed nor aborted."""
    if not (isinstance(root, ObjectPath) and hasattr(root.store, "call_s3")):
        return
    bucket, prefix = _split(root)
    more: dict[str, Any] = {}
    while True:
        page = root.store.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/", **more)
        for upload in page.get("Uploads", []):
            path = root / upload["Key"].removeprefix(f"{prefix}/")
            yield Leftover(path, "upload", 0, now - upload["Initiated"].timestamp(), upload["UploadId"])
        if not page.get("IsTruncated"):
            return
        more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}


def _remove(item: Leftover) -> None:
    if item.upload and isinstance(item.path, ObjectPath):
        bucket, key = _split(item.path)
        item.path.store.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=item.upload)
    else:
        item.path.unlink(missing_ok=True)


def _split(path: ObjectPath) -> tuple[str, str]:
    bucket, _, key = path.url.partition("://")[2].partition("/")
    return bucket, key
