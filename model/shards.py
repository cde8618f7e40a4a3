"""A dataset folder as an indexed sequence of songs: only shards that its manifest lists, read by random access.

Conventions: a tar member is ``<key>.<extension>``; keys have no dots; songs are ordered as in the manifest, then the
tar. Each shard's tar headers are read once at the start; samples are read when asked for and kept up to a memory limit.
"""

import hashlib
import json
import logging
import os
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from model.config import ModelConfig, StageConfig
from pipeline.errors import BadInput
from pipeline.records.schema import SCHEMA_VERSION, Sample

logger = logging.getLogger(__name__)

_BLOCK = 512  # bytes; a tar is made of such
CACHE_BYTES = 2 * 1024**3  # bytes of decoded arrays held per process; ours: 10,000 hours of two bare streams are 4 GB


@dataclass(frozen=True, slots=True)
class Member:
    """Where one file of one sample lies inside its shard."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    shard: Path
    members: Mapping[str, Member]  # by extension


def read_manifest(dataset: Path, sha256: str = "") -> dict[str, Any]:
    """`manifest.json` of a dataset folder; `BadInput` where it is missing, unreadable or of another schema version.

    Or where its hash isn't `sha256`: the dataset was rebuilt after whoever knows that hash began (`other_data`).
    """
    path = dataset / "manifest.json"
    try:
        content = path.read_bytes()
        manifest: dict[str, Any] = json.loads(content)
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist; build the dataset first (backline build)", "missing") from error
    except ValueError as error:
        raise BadInput(f"{path} is not JSON ({error}); rebuild the dataset", "unreadable") from error
    if manifest.get("schema_version") != SCHEMA_VERSION:
        version = manifest.get("schema_version")
        raise BadInput(f"{path} has schema version {version}, this code reads {SCHEMA_VERSION}", "schema_version")
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise BadInput(
            f"{path} was rebuilt since this run began (manifest {sha256[:12]}, now {found[:12]}); build the old dataset"
            " again and resume, or train on the new one with a new --out",
            "other_data",
        )
    return manifest


def manifest_sha256(dataset: Path) -> str:
    """Hash of the manifest's bytes: names the exact training data in a checkpoint. `BadInput` as `read_manifest`."""
    read_manifest(dataset)
    return hashlib.sha256((dataset / "manifest.json").read_bytes()).hexdigest()


def index_shard(path: Path, expected_bytes: int, expected_samples: int) -> list[Entry]:
    """The samples of one tar; `BadInput` where it is missing, of another size, or holds another number of samples.

    A tar cut at a member boundary reads without error, hence the two counts from the manifest.
    """
    if not path.exists():
        raise BadInput(f"{path} is listed in the manifest but missing; run backline verify", "missing")
    if path.stat().st_size != expected_bytes:
        size = path.stat().st_size
        raise BadInput(f"{path} has {size} bytes, its manifest says {expected_bytes}; run backline verify", "truncated")
    found: dict[str, dict[str, Member]] = {}
    for name, member in _members(path):
        key, _, extension = name.partition(".")
        found.setdefault(key, {})[extension] = member
    if len(found) != expected_samples:
        raise BadInput(
            f"{path} holds {len(found)} samples, its manifest says {expected_samples}; run backline verify", "truncated"
        )
    return [Entry(key, path, members) for key, members in found.items()]


def _members(path: Path) -> list[tuple[str, Member]]:
    """Names and places of the files in a tar; of one that somebody else wrote, as `tarfile` reads it."""
    with path.open("rb", buffering=0) as file:
        try:
            return list(_plain_members(file.fileno()))
        except _OtherTarError:
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                return [(info.name, Member(info.offset_data, info.size)) for info in tar]


class _OtherTarError(Exception):
    """A tar with headers that ours don't have."""


def _plain_members(file: int) -> Iterator[tuple[str, Member]]:
    """The same of a tar with nothing but plain files, for which `tarfile` does far more than it needs."""
    offset = 0
    while len(header := os.pread(file, _BLOCK, offset)) == _BLOCK and any(header):
        checksum = 256 + sum(header[:148]) + sum(header[156:])  # its own field counts as eight spaces
        if header[156:157] not in (b"0", b"\0") or any(header[345:500]) or checksum != _octal(header[148:156]):
            raise _OtherTarError
        member = Member(offset + _BLOCK, _octal(header[124:136]))
        yield header[:100].rstrip(b"\0").decode(), member
        offset = member.offset + -(-member.size // _BLOCK) * _BLOCK


def _octal(digits: bytes) -> int:
    """A number of a tar's header; -1 for what is none."""
    text = digits.strip(b" \0")
    return int(text, 8) if text.isdigit() else -1


class ShardSamples(Sequence[Sample]):
    """The songs of one split. Indexing reads and validates (`ContractError`); the most recent songs stay in memory.

    With `sha256` only those of the manifest of that hash (`read_manifest`).
    """

    def __init__(self, dataset: Path, split: str, cache_bytes: int = CACHE_BYTES, sha256: str = "") -> None:
        listed = [shard for shard in read_manifest(dataset, sha256)["shards"] if shard["split"] == split]
        self.split = split
        self.entries = [e for s in listed for e in index_shard(dataset / s["file"], s["bytes"], s["samples"])]
        self._cache: OrderedDict[int, Sample] = OrderedDict()
        self._cached = 0
        self._limit = cache_bytes
        logger.info("split %s: %d songs in %d shards of %s", split, len(self.entries), len(listed), dataset)

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        sample = read_entry(self.entries[index])
        self._keep(index, sample)
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def _keep(self, index: int, sample: Sample) -> None:
        self._cache[index] = sample
        self._cached += _size(sample)
        while self._cached > self._limit and len(self._cache) > 1:
            _, oldest = self._cache.popitem(last=False)
            self._cached -= _size(oldest)


def load_training_split(dataset: Path, stage: StageConfig, model: ModelConfig, sha256: str = "") -> ShardSamples:
    """The songs of a stage; `BadInput` where there are none or their prefix vectors don't fit the model.

    Or where the manifest's hash isn't `sha256` any more.
    """
    samples = ShardSamples(dataset, stage.split, sha256=sha256)
    if not samples:
        raise BadInput(
            f"stage {stage.name}: split {stage.split} of {dataset} has no songs; add songs, loosen the selection, or "
            f"set the stage's split to one of {sorted({s['split'] for s in read_manifest(dataset)['shards']})}",
            "empty_split",
        )
    width = samples[0].text.shape[1]
    if width != model.prefix_width:
        raise BadInput(f"prefix vectors of {dataset} are {width} wide; set model.prefix_width to that", "prefix_width")
    if model.kind == "flow" and not {"vocal", "accompaniment"} <= samples[0].latents.keys():
        raise BadInput(
            f"{dataset} holds codes and no latents, which model.kind flow learns from; build it with "
            "tokenization.latents: true",
            "no_latents",
        )
    return samples


def weights_behind(sample: Sample) -> tuple[str, str]:
    """Hashes of the codec's and the conditioner's weights, as the sample records them; empty where it doesn't."""
    records = {record.stage: record.weights_sha256 for record in sample.info.backends}
    codec = records.get("codec", records.get("tokenization", ""))
    return codec, records.get("conditioning", "")


def read_entry(entry: Entry) -> Sample:
    """One sample from its shard."""
    begin = min(member.offset for member in entry.members.values())
    end = max(member.offset + member.size for member in entry.members.values())
    with entry.shard.open("rb", buffering=0) as file:  # a sample's files lie side by side: one read
        data = os.pread(file.fileno(), end - begin, begin)
    return Sample.from_files(
        {name: data[m.offset - begin : m.offset - begin + m.size] for name, m in entry.members.items()}
    )


def _size(sample: Sample) -> int:
    arrays = (sample.vocal, sample.accompaniment, sample.reference, sample.text, *sample.latents.values())
    return sum(array.nbytes for array in arrays)
