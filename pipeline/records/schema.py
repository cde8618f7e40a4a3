"""The shard contract, version 1: what one WebDataset sample holds. Standard library and numpy only.

Conventions: times are seconds from the start of the (already stretched) song; intervals are half-open; codes are
uint16; `F` window phases, `T` codes, `V` frequency-balanced variants, `R` reference windows, `C` captions, `W` prefix
width.
"""

import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1
SPLITS = ("train-stage1", "train-stage2", "val", "test")
CODEBOOK_SIZE = 16_384  # codes are below it
_ARRAYS = ("vocal", "accompaniment", "reference", "text")
_KEY = re.compile(r"[A-Za-z0-9_+-]{1,80}")  # WebDataset cuts names at the first dot; ustar names end at 100 characters


class ContractError(ValueError):
    """A sample that breaks the contract; the message names the key, the field, the value and the rule."""


@dataclass(frozen=True, slots=True)
class BackendRecord:
    """The backend of one stage that made part of this sample."""

    stage: str
    backend: str
    weights_sha256: str  # empty where the backend has no weights
    licence: str


@dataclass(frozen=True, slots=True)
class CodecRecord:
    window_tokens: int
    hop_samples: int  # at 48 kHz
    phases: int
    context_frames: int


@dataclass(frozen=True, slots=True)
class SectionRecord:
    start: float  # s
    end: float  # s
    label: str


@dataclass(frozen=True, slots=True)
class FilterRecord:
    """One biquad of a frequency-balanced variant (paper A.2)."""

    kind: str  # bass, mid, treble
    gain_db: float
    frequency: float  # Hz
    q: float


@dataclass(frozen=True, slots=True)
class VariantRecord:
    """How variant v of a stream was made: filters (none for variant 0 and un-augmented draws) and the loudness gain."""

    filters: tuple[FilterRecord, ...]
    gain_db: float


@dataclass(frozen=True, slots=True)
class SampleInfo:
    """`<key>.json`."""

    key: str  # track id, "-" and the augmentation ("orig", "stretch-1.1", "pitch+1"); no dots: "stretch-1_1"
    track_id: str
    uri: str
    licence: str
    artist: str
    split: str  # train, val, test
    selection: str  # stage1, stage2
    selection_reasons: tuple[str, ...]
    scores: Mapping[str, float]  # quality backend's five, 1..5, and "mean"
    sections: tuple[SectionRecord, ...]
    beats: tuple[float, ...]  # s
    downbeats: tuple[float, ...]  # s
    tempo: float  # beats a minute
    music_key: str  # "C major"
    vocal_active: tuple[tuple[float, float], ...]  # s
    captions: tuple[str, ...]
    lyrics: str
    samples_48k: int
    tokens: int  # T
    augmentation: str  # "orig", "stretch-1.1", "pitch+1"
    vocal_gain_db: float
    accompaniment_variants: tuple[VariantRecord, ...]  # 1 + V
    reference_variants: tuple[VariantRecord, ...]  # 1 + V
    reference_spans: tuple[tuple[float, float], ...]  # R, s
    codec: CodecRecord
    backends: tuple[BackendRecord, ...]
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Sample:
    """One song (or one stretched copy of it) as training sees it."""

    info: SampleInfo
    vocal: NDArray[np.uint16]  # [F, T]
    accompaniment: NDArray[np.uint16]  # [1+V, F, T]
    reference: NDArray[np.float16]  # [1+V, R, W]
    text: NDArray[np.float16]  # [C, W]
    # optional, before quantisation: "vocal" [F, T, L], "accompaniment" [1+V, F, T, L]
    latents: Mapping[str, NDArray[np.float16]] = field(default_factory=dict)

    def validate(self) -> Self:
        """The sample itself, or `ContractError`."""
        _check_info(self.info)
        i, phases = self.info, self.info.codec.phases
        _check_array(i, "vocal", self.vocal, np.uint16, (phases, i.tokens))
        _check_array(
            i, "accompaniment", self.accompaniment, np.uint16, (len(i.accompaniment_variants), phases, i.tokens)
        )
        shape = (len(i.reference_variants), len(i.reference_spans))
        _check_array(i, "reference", self.reference, np.float16, (*shape, self.reference.shape[-1]))
        _check_array(i, "text", self.text, np.float16, (len(i.captions), self.reference.shape[-1]))
        for name in ("vocal", "accompaniment"):
            highest = int(getattr(self, name).max(initial=0))
            if highest >= CODEBOOK_SIZE:
                raise ContractError(f"{i.key}.{name}: code {highest}, the highest there is is {CODEBOOK_SIZE - 1}")
        for name, latent in self.latents.items():
            shape = (*getattr(self, name).shape, *latent.shape[-1:]) if name in ("vocal", "accompaniment") else ()
            _check_array(i, f"latent.{name}", latent, np.float16, shape)
        return self

    def to_files(self) -> dict[str, bytes]:
        """File extension -> bytes; the same sample gives the same bytes. `ContractError` if a number is not finite."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"latent.{name}": value for name, value in self.latents.items()}
        try:
            info = json.dumps(
                plain(self.info), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
            )
        except ValueError as error:
            raise ContractError(f"{self.info.key}.json: NaN or infinity among its numbers") from error
        return {"json": info.encode()} | {f"{name}.npy": _npy(value) for name, value in sorted(arrays.items())}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; `ContractError` where a file is missing, unreadable or of another schema version."""
        try:
            info = info_from_json(json.loads(files["json"]))
            arrays = {name: _array(files[f"{name}.npy"]) for name in _ARRAYS}
            latents = {name: _array(files[f"latent.{name}.npy"]) for name in _latent_names(files)}
        except KeyError as error:
            raise ContractError(f"sample lacks {error}; it has {sorted(files)}") from error
        except ContractError:
            raise
        except (ValueError, TypeError, EOFError) as error:
            raise ContractError(f"sample can't be read: {error}; it has {sorted(files)}") from error
        return cls(info=info, latents=latents, **arrays).validate()


def plain(record: Any) -> dict[str, Any]:
    """What `json.dumps` takes of a record: equal to `dataclasses.asdict` in JSON, and copies no list of times."""
    kind: Any = type(record)
    names, read = _fields(kind)
    return {name: _plain(value) for name, value in zip(names, read(record), strict=True)}


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is tuple and value and type(value[0]) in _RECORDS:
        return [plain(item) for item in value]
    return plain(value) if kind in _RECORDS else value


@cache
def _fields(kind: Any) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    """The names of a record's fields, and what reads them all."""
    return kind.__slots__, attrgetter(*kind.__slots__)


def info_from_json(data: Mapping[str, Any]) -> SampleInfo:
    """Typed `<key>.json`."""
    if data["schema_version"] != SCHEMA_VERSION:
        raise ContractError(f"schema version {data['schema_version']}, this code reads {SCHEMA_VERSION}")
    variants = {
        name: tuple(VariantRecord(tuple(FilterRecord(**f) for f in v["filters"]), v["gain_db"]) for v in data[name])
        for name in ("accompaniment_variants", "reference_variants")
    }
    typed = (
        dict(data)
        | variants
        | {
            "sections": tuple(SectionRecord(**s) for s in data["sections"]),
            "codec": CodecRecord(**data["codec"]),
            "backends": tuple(BackendRecord(**b) for b in data["backends"]),
            "vocal_active": tuple((a, b) for a, b in data["vocal_active"]),
            "reference_spans": tuple((a, b) for a, b in data["reference_spans"]),
        }
    )
    for name in ("selection_reasons", "beats", "downbeats", "captions"):
        typed[name] = tuple(data[name])
    return SampleInfo(**typed)


_RECORDS = {BackendRecord, CodecRecord, SectionRecord, FilterRecord, VariantRecord}


def _check_info(info: SampleInfo) -> None:
    i = info
    rules = {
        f"key {i.key!r} must match {_KEY.pattern}": bool(_KEY.fullmatch(i.key)),
        f"split {i.split!r} is none of train, val, test": i.split in ("train", "val", "test"),
        f"selection {i.selection!r} is none of stage1, stage2": i.selection in ("stage1", "stage2"),
        f"{i.tokens} tokens do not fit {i.samples_48k} samples at 48 kHz": i.tokens == 25 * i.samples_48k // 48_000 + 1,
        "variant 0 of both streams must be there": bool(i.accompaniment_variants and i.reference_variants),
        f"{i.split} samples have no balanced variants": i.split == "train"
        or len(i.accompaniment_variants) == len(i.reference_variants) == 1,
    }
    if broken := [rule for rule, kept in rules.items() if not kept]:
        raise ContractError(f"{i.key}: {'; '.join(broken)}")


def _check_array(info: SampleInfo, name: str, array: NDArray[Any], dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        wanted = f"{np.dtype(dtype)} {shape}"
        raise ContractError(
            f"{info.key}.{name}: {array.dtype} {array.shape} does not fit its json, which asks {wanted}"
        )


def _latent_names(files: Mapping[str, bytes]) -> list[str]:
    matches = (re.fullmatch(r"latent\.(\w+)\.npy", name) for name in sorted(files))
    return [match[1] for match in matches if match]


def _array(data: bytes) -> NDArray[Any]:
    """`np.load` of an array in bytes; the header, a Python expression, is evaluated once for each shape."""
    end = 10 + int.from_bytes(data[8:10], "little")  # of the header of version 1
    shape, fortran, dtype = _header(data[:end])
    count = math.prod(shape)
    if fortran or dtype.hasobject or len(data) != end + count * dtype.itemsize:
        raise ValueError(f"{dtype} {shape} in {len(data)} bytes is no array of ours")
    return np.frombuffer(data, dtype, count, end).reshape(shape).copy()


@lru_cache(maxsize=4096)  # headers of 128 bytes; a song's length is in three of them
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    stream = io.BytesIO(data)
    if (version := np.lib.format.read_magic(stream)) != (1, 0):
        raise ValueError(f"npy version {version}, ours have 1.0")
    return np.lib.format.read_array_header_1_0(stream)


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)  # memory order must not change the bytes
    return buffer.getvalue()
