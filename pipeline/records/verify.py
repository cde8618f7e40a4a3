"""Whether a dataset folder holds exactly the samples that its manifest promises."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.records import files
from pipeline.records.files import DamageError
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

Kind = Literal[
    "manifest", "shard_missing", "sidecar_missing", "sidecar_differs", "bytes", "sha256", "cut",
    "samples", "keys", "contract", "duplicate_key", "leak", "unlisted",
]  # fmt: skip
_END_OF_TAR = 1024  # bytes; a whole tar ends with two blocks of zeros


@dataclass(frozen=True, slots=True)
class Problem:
    path: Path
    kind: Kind
    message: str  # what was found, what should be there, what to do


def verify(directory: Path) -> list[Problem]:
    """Everything that is damaged or missing; empty for a good dataset. Reads every byte."""
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


def _sidecar_problems(path: Path, shard: Sidecar) -> Iterator[Problem]:
    sidecar = path.with_suffix(".json")
    if not sidecar.exists():
        yield Problem(sidecar, "sidecar_missing", "the shard's commit is missing; build the dataset again")
        return
    try:
        if read_sidecar(sidecar) != shard:
            yield Problem(sidecar, "sidecar_differs", "sidecar and manifest disagree; build the dataset again")
    except DamageError as error:
        yield Problem(sidecar, "sidecar_differs", str(error))


def _shard_problems(path: Path, shard: Sidecar, samples: list[Sample]) -> Iterator[Problem]:
    """What is wrong with one tar; its readable samples are appended to `samples`."""
    if not path.exists():
        yield Problem(path, "shard_missing", f"{shard.samples} samples lost; build the dataset again")
        return
    sha256, size = files.digest(path)
    if size != shard.bytes:
        yield Problem(path, "bytes", f"{size} bytes, committed {shard.bytes}; remove it and build again")
    elif sha256 != shard.sha256:
        yield Problem(path, "sha256", f"sha256 {sha256}, committed {shard.sha256}; remove it and build again")
    if not _is_closed(path):
        yield Problem(path, "cut", "the tar has no end: samples after the cut are lost; remove it and build again")
    keys: list[str] = []
    try:
        for key, members in grouped_members(path):
            keys.append(key)
            samples.append(Sample.from_files(members))
    except tarfile.TarError as error:
        yield Problem(path, "cut", f"a member is cut short ({error}); remove it and build again")
    except ContractError as error:
        yield Problem(path, "contract", f"sample {keys[-1]!r}: {error}; remove it and build again")
        return
    if len(keys) != shard.samples:
        yield Problem(path, "samples", f"{len(keys)} samples, committed {shard.samples}; remove it and build again")
    elif keys_hash(keys) != shard.keys_sha256:
        yield Problem(path, "keys", "its keys are not the committed ones; remove it and build again")


def _song_problems(
    path: Path, shard: Sidecar, samples: list[Sample], seen: dict[tuple[str, str], str], homes: dict[str, str]
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
