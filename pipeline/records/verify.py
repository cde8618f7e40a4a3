"""Whether a dataset holds exactly the samples that its manifest promises, and a root all that its rows name."""

import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.records import files
from pipeline.records.catalog import Catalog
from pipeline.records.files import DamageError, Place
from pipeline.records.ledger import Ledger
from pipeline.records.leftovers import LEASE_HOURS, WHAT, Leftover, leftovers, unfinished
from pipeline.records.schema import ContractError, Sample
from pipeline.records.sharding import (
    ManifestError,
    Sidecar,
    grouped_members,
    keys_hash,
    read_manifest,
    read_sidecar,
    unlisted,
)
from pipeline.records.store import Store

Kind = Literal[
    "manifest", "shard_missing", "sidecar_missing", "sidecar_differs", "bytes", "sha256", "cut",
    "samples", "keys", "contract", "duplicate_key", "leak", "unlisted", "artefact", "leftover",
]  # fmt: skip
_END_OF_TAR = 1024  # bytes; a whole tar ends with two blocks of zeros


@dataclass(frozen=True, slots=True)
class Problem:
    path: Place
    kind: Kind
    message: str  # what was found, what should be there, what to do


def verify_root(root: Place) -> list[Problem]:
    """Everything that is damaged, missing or left over under the root of a build. Reads every byte.

    `ValueError` where a part of the catalog or the ledger is no Parquet file.
    """
    problems: list[Problem] = []
    for entry in files.entries(root / "datasets"):
        problems += _dataset_problems(root / "datasets" / entry.name) if entry.folder else ()
    ledger, catalog = Ledger(root), Catalog(root)
    for batch in catalog.batches():
        catalog.read(batch)
    for stage, key in ledger.stages():
        problems += _artefact_problems(ledger, stage, key)
    return problems + _left_behind(leftovers(root, time.time()))


def verify(directory: Place) -> list[Problem]:
    """Everything that is damaged, missing or left over in a dataset; empty for a good one. Reads every byte."""
    return _dataset_problems(directory) + _left_behind(unfinished(directory, time.time()))


def _left_behind(found: Iterable[Leftover]) -> list[Problem]:
    old = (item for item in found if item.age > LEASE_HOURS * 3600)
    return [Problem(item.path, "leftover", f"{WHAT[item.kind]}; `backline gc` removes it") for item in old]


def _artefact_problems(ledger: Ledger, stage: str, key: str) -> Iterator[Problem]:
    store = Store(ledger.directory(stage, key))
    for row in ledger.all_rows(stage, key).values():
        for artefact in row.artefacts:
            try:
                store.get_bytes(artefact)
            except DamageError as error:
                yield Problem(store.directory / artefact.path, "artefact", str(error))


def _dataset_problems(directory: Place) -> list[Problem]:
    try:
        shards = read_manifest(directory).shards
    except ManifestError as error:
        return [Problem(directory / "manifest.json", "manifest", str(error))]
    problems: list[Problem] = []
    seen: dict[tuple[str, str], str] = {}  # (split, key) -> shard
    homes: dict[str, str] = {}  # track id -> train, val or test
    for shard in shards:
        path = directory / shard.file
        problems += _sidecar_problems(path, shard)
        samples: list[Sample] = []
        problems += _shard_problems(path, shard, samples)
        problems += _song_problems(path, shard, samples, seen, homes)
    extra = "no manifest lists it: a build that was cut off or replaced left it; remove it"
    return problems + [Problem(path, "unlisted", extra) for path in unlisted(directory, shards)]


def _sidecar_problems(path: Place, shard: Sidecar) -> Iterator[Problem]:
    sidecar = path.with_suffix(".json")
    if not sidecar.exists():
        yield Problem(sidecar, "sidecar_missing", "the shard's commit is missing; build the dataset again")
        return
    try:
        if read_sidecar(sidecar) != shard:
            yield Problem(sidecar, "sidecar_differs", "sidecar and manifest disagree; build the dataset again")
    except DamageError as error:
        yield Problem(sidecar, "sidecar_differs", str(error))


def _shard_problems(path: Place, shard: Sidecar, samples: list[Sample]) -> Iterator[Problem]:
    """What is wrong with one tar; its readable samples are appended to `samples`."""
    if not path.exists():
        yield Problem(path, "shard_missing", f"{shard.samples} samples lost; build the dataset again")
        return
    with files.fetched(path) as local:
        found = [*_byte_problems(local, shard), *_member_problems(local, shard, samples)]
    yield from (Problem(path, kind, message) for kind, message in found)


def _byte_problems(path: Path, shard: Sidecar) -> Iterator[tuple[Kind, str]]:
    sha256, size = files.digest(path)
    if size != shard.bytes:
        yield "bytes", f"{size} bytes, committed {shard.bytes}; remove it and build again"
    elif sha256 != shard.sha256:
        yield "sha256", f"sha256 {sha256}, committed {shard.sha256}; remove it and build again"
    if not _is_closed(path):
        yield "cut", "the tar has no end: samples after the cut are lost; remove it and build again"


def _member_problems(path: Path, shard: Sidecar, samples: list[Sample]) -> Iterator[tuple[Kind, str]]:
    keys: list[str] = []
    try:
        for key, members in grouped_members(path):
            keys.append(key)
            samples.append(Sample.from_files(members))
    except tarfile.TarError as error:
        yield "cut", f"a member is cut short ({error}); remove it and build again"
    except ContractError as error:
        yield "contract", f"sample {keys[-1]!r}: {error}; remove it and build again"
        return
    if len(keys) != shard.samples:
        yield "samples", f"{len(keys)} samples, committed {shard.samples}; remove it and build again"
    elif keys_hash(keys) != shard.keys_sha256:
        yield "keys", "its keys are not the committed ones; remove it and build again"


def _song_problems(
    path: Place, shard: Sidecar, samples: list[Sample], seen: dict[tuple[str, str], str], homes: dict[str, str]
) -> Iterator[Problem]:
    for info in (sample.info for sample in samples):
        if other := seen.get((shard.split, info.key)):
            yield Problem(path, "duplicate_key", f"key {info.key!r} is in {other} too; build the dataset again")
        seen[shard.split, info.key] = shard.file
        if homes.setdefault(info.track_id, info.split) != info.split:
            home = homes[info.track_id]
            yield Problem(
                path, "leak", f"track {info.track_id} is in {home} and in {info.split}; build the dataset again"
            )


def _is_closed(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END_OF_TAR))
        return file.read() == bytes(_END_OF_TAR)
