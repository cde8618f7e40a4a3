"""Samples -> tar shards, each committed by a sidecar; the manifest that lists a dataset's shards.

Conventions: a shard is ``<split>-<number>-<hash 8>.tar``; the hash is of its config and content, so a changed
selection makes another file and no old byte changes. Its sidecar (``.json``, written last, create-if-absent) is the
commit; it names the inputs too, so that an equal build finds its shard without making it again. Readers take the shards
that ``manifest.json`` lists and no others. No date, host or duration is written: same samples, same bytes.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import PipelineError
from pipeline.records import files
from pipeline.records.files import DamageError, Place
from pipeline.records.schema import SCHEMA_VERSION, SPLITS, ContractError, Sample

MANIFEST = "manifest.json"
SHARD_NAME = re.compile(rf"(?P<split>{'|'.join(SPLITS)})-(?P<number>\d{{6,}})-[0-9a-f]{{8}}\.(tar|json)")
_OWN_FIELDS = ("schema_version", "name", "config_hash", "shards", "stages")


class ManifestError(PipelineError):
    """A dataset's manifest is missing, unreadable, of another version, or lists a shard that is not there."""


class EmptySplitError(PipelineError):
    """A split that training or evaluation needs holds no sample."""


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The commit of one shard."""

    split: str
    number: int
    file: str  # name of the tar, beside the sidecar
    sha256: str
    bytes: int
    samples: int
    keys_sha256: str  # of the keys in order, joined by newlines
    config_hash: str
    schema_version: int = SCHEMA_VERSION
    inputs_sha256: str = ""  # of what the samples were made from; empty where the writer didn't say


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a dataset consists of."""

    name: str
    config_hash: str
    shards: tuple[Sidecar, ...]
    stages: Mapping[str, str]  # stage -> key
    extra: Mapping[str, Any] = field(
        default_factory=dict
    )  # JSON values that readers may need: the vector of the empty text


def committed_shard(directory: Place, split: str, number: int, inputs_sha256: str) -> Sidecar | None:
    """The commit of a shard that was made from these inputs and whose tar has its length; `None` if there is none.

    The tar's bytes are not read: that is what `verify` is for, and whoever removes a damaged tar gets it written again.
    """
    sizes = {entry.name: entry.bytes for entry in files.entries(directory, f"{split}-{number:06d}-")}
    for path in (directory / name for name in sizes if name.endswith(".json")):
        with suppress(DamageError):  # a sidecar that says nothing commits nothing
            sidecar, tar = read_sidecar(path), path.with_suffix(".tar")
            if sidecar.inputs_sha256 == inputs_sha256 and sizes.get(tar.name) == sidecar.bytes:
                return sidecar
    return None


def write_shard(
    directory: Place,
    split: str,
    number: int,
    samples: Iterable[Sample],
    config_hash: str,
    inputs_sha256: str = "",
) -> Sidecar:
    """Write and commit one shard; where the same shard is committed already, only its sidecar is returned.

    Samples come sorted by key. `ContractError` if one breaks the contract, is out of order or belongs to another split;
    `ValueError` if there is none: an empty shard is not written.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is none of {SPLITS}")
    with files.attempt(directory / f"{split}-{number:06d}.tar") as temporary:
        keys = _write_tar(temporary, split, samples)
        if not keys:
            raise ValueError(f"shard {split}-{number:06d} would be empty; leave it out")
        return commit_shard(directory, temporary, split, number, keys, config_hash, inputs_sha256)


def commit_shard(
    directory: Place,
    temporary: Path,
    split: str,
    number: int,
    keys: Sequence[str],
    config_hash: str,
    inputs_sha256: str = "",
) -> Sidecar:
    """Name a finished tar by its content and commit it."""
    sha256, size = files.digest(temporary)
    name_hash = hashlib.sha256(f"{config_hash}\n{sha256}".encode()).hexdigest()[:8]
    name = f"{split}-{number:06d}-{name_hash}.tar"
    sidecar = Sidecar(
        *(split, number, name, sha256, size, len(keys), keys_hash(keys), config_hash), inputs_sha256=inputs_sha256
    )
    path = directory / name
    if not (path.with_suffix(".json").exists() and path.exists() and files.digest(path) == (sha256, size)):
        files.publish(temporary, path)  # absent or damaged; what a killed writer left gets a new lease
    _commit(path, sidecar)
    return sidecar


def _commit(path: Place, sidecar: Sidecar) -> None:
    """Write the sidecar; one that is there must say the same, but for inputs that came to the same bytes."""
    place = path.with_suffix(".json")
    if files.create(place, _json(asdict(sidecar))):
        return
    committed = read_sidecar(place)
    if replace(committed, inputs_sha256=sidecar.inputs_sha256) != sidecar:
        raise DamageError(
            f"{path}: sidecar says {committed}, the same shard written now is {sidecar}; remove both files"
        )
    if committed != sidecar:
        files.replace(place, _json(asdict(sidecar)))


def read_shard(path: Place, sidecar: Sidecar) -> Iterator[Sample]:
    """The samples of a shard in order; `DamageError` before the first one if the bytes are not the committed ones."""
    if not path.exists():
        raise DamageError(f"{path} is missing; committed {sidecar.bytes} bytes, {sidecar.sha256}; build again")
    with files.fetched(path) as local:
        sha256, size = files.digest(local)
        if (sha256, size) != (sidecar.sha256, sidecar.bytes):
            raise DamageError(f"{path}: {size} bytes, sha256 {sha256}; committed {sidecar.bytes}, {sidecar.sha256}")
        for _, members in grouped_members(local):
            yield Sample.from_files(members)


def grouped_members(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, extension -> bytes) of each run of members with one key; `tarfile.ReadError` if a member is cut short."""
    key, members = "", dict[str, bytes]()
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            name, _, extension = info.name.partition(".")
            if name != key and members:
                yield key, members
                members = {}
            key = name
            content = tar.extractfile(info)
            members[extension] = content.read() if content else b""
    if members:
        yield key, members


def keys_hash(keys: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def read_sidecar(path: Place) -> Sidecar:
    """A committed sidecar; `DamageError` if it can't be understood."""
    try:
        return Sidecar(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise DamageError(f"{path}: not a sidecar ({error}); remove it and build again") from error


def write_manifest(
    directory: Place, name: str, config_hash: str, sidecars: Iterable[Sidecar], stages: Mapping[str, str], **extra: Any
) -> Manifest:
    """Replace the dataset's manifest in one step, shards by split and number. `ManifestError` if one isn't there."""
    shards = tuple(sorted(sidecars, key=lambda shard: (SPLITS.index(shard.split), shard.number, shard.file)))
    _require_there(directory, shards)
    if clash := sorted(set(extra) & set(_OWN_FIELDS)):
        raise ValueError(f"extra manifest fields {clash} are the manifest's own; choose other names")
    manifest = Manifest(name, config_hash, shards, dict(stages), extra)
    own = {"schema_version": SCHEMA_VERSION, "name": name, "config_hash": config_hash, "stages": dict(stages)}
    files.replace(directory / MANIFEST, _json(extra | own | {"shards": [asdict(shard) for shard in shards]}))
    return manifest


def _require_there(directory: Place, shards: Iterable[Sidecar]) -> None:
    there = {entry.name for entry in files.entries(directory)}
    for shard in shards:
        if not {shard.file, Path(shard.file).with_suffix(".json").name} <= there:
            raise ManifestError(
                f"{directory / shard.file}: not a committed shard, so it can't be listed; if another build of this "
                "dataset was at work, it removed it: let that one end, then build again"
            )


def read_manifest(directory: Place) -> Manifest:
    path = directory / MANIFEST
    try:
        data = json.loads(path.read_bytes())
        if (version := data["schema_version"]) != SCHEMA_VERSION:
            raise ManifestError(f"{path}: schema version {version}, this code reads {SCHEMA_VERSION}; build again")
        shards = tuple(Sidecar(**shard) for shard in data["shards"])
        extra = {name: value for name, value in data.items() if name not in _OWN_FIELDS}
        return Manifest(data["name"], data["config_hash"], shards, data["stages"], extra)
    except FileNotFoundError as error:
        raise ManifestError(f"{path} is missing; the build of this dataset did not end, run it again") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{path}: not a manifest ({error!r}); run the build again") from error


def history(directory: Place) -> list[Mapping[str, Any]]:
    """What was taken out of a dataset since it was first built, oldest first; empty where there is no manifest."""
    if not (directory / MANIFEST).exists():
        return []
    return list(read_manifest(directory).extra.get("history", []))


def require_splits(sidecars: Iterable[Sidecar], splits: Sequence[str] = SPLITS) -> None:
    """`EmptySplitError` unless every split holds a sample."""
    counts = dict.fromkeys(splits, 0)
    for sidecar in sidecars:
        counts[sidecar.split] = counts.get(sidecar.split, 0) + sidecar.samples
    if empty := [split for split in splits if not counts[split]]:
        raise EmptySplitError(
            f"no song left for {', '.join(empty)} (samples per split: {counts}); add songs, lower the gate, "
            "or take another root with a manifest that gives songs a split (catalogued songs keep theirs)"
        )


def remove_unlisted(directory: Place) -> list[Place]:
    """Remove shards and sidecars that no manifest lists, and stale attempts; the paths removed.

    Another build with other settings may do the same here: `ManifestError` where it removed what is listed.
    """
    version, removed = files.version(directory / MANIFEST), list[Place]()
    for path in unlisted(directory, read_manifest(directory).shards):
        if files.version(directory / MANIFEST) != version:
            break  # another build's list holds now, and that build removes the rest
        path.unlink(missing_ok=True)
        removed.append(path)
    _require_there(directory, read_manifest(directory).shards)
    return removed + files.remove_attempts(directory)


def unlisted(directory: Place, shards: Iterable[Sidecar]) -> list[Place]:
    """Files named like shards or sidecars that belong to none of `shards`."""
    listed = {name for shard in shards for name in (shard.file, Path(shard.file).with_suffix(".json").name)}
    names = (entry.name for entry in files.entries(directory))
    return [directory / name for name in names if SHARD_NAME.fullmatch(name) and name not in listed]


def _write_tar(path: Path, split: str, samples: Iterable[Sample]) -> list[str]:
    keys: list[str] = []
    with path.open("xb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                key = sample.validate().info.key
                if keys and key <= keys[-1]:
                    raise ContractError(f"key {key!r} after {keys[-1]!r}: keys of a shard rise, none comes twice")
                if not split.startswith(sample.info.split):
                    raise ContractError(f"{key}: split {sample.info.split!r} can't go into shards of {split!r}")
                _add(tar, key, sample)
                keys.append(key)
        sync(file)
    return keys


def _add(tar: tarfile.TarFile, key: str, sample: Sample) -> None:
    for extension, data in sorted(sample.to_files().items()):
        info = tarfile.TarInfo(
            f"{key}.{extension}"
        )  # its defaults are what determinism needs: mode 0644, zero mtime and owner
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def sync(file: BinaryIO) -> None:
    """Make a file's bytes survive a power cut."""
    file.flush()
    os.fsync(file.fileno())


def _json(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=True, allow_nan=False)
    return f"{text}\n".encode()
