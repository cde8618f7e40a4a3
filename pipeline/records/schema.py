"""The shard contract, version 1: what one WebDataset sample holds. Standard library and numpy only.

Conventions: times are seconds from the start of the (already stretched) song; intervals are half-open; codes are
uint16; `F` window phases, `T` codes, `V` frequency-balanced variants, `R` reference windows, `C` captions, `W` prefix
width.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1
SPLITS = ("train-stage1", "train-stage2", "val", "test")


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
    latents: Mapping[str, NDArray[np.float16]] = field(default_factory=dict)  # optional "vocal", "accompaniment"

    def validate(self) -> Self:
        """The sample itself, or `ContractError`."""
        i, phases = self.info, self.info.codec.phases
        rules = {
            "vocal": (self.vocal.dtype == np.uint16 and self.vocal.shape == (phases, i.tokens), self.vocal),
            "accompaniment": (
                self.accompaniment.dtype == np.uint16
                and self.accompaniment.shape == (len(i.accompaniment_variants), phases, i.tokens),
                self.accompaniment,
            ),
            "reference": (
                self.reference.dtype == np.float16
                and self.reference.shape[:2] == (len(i.reference_variants), len(i.reference_spans)),
                self.reference,
            ),
            "text": (self.text.dtype == np.float16 and self.text.shape[0] == len(i.captions), self.text),
        }
        for name, (good, array) in rules.items():
            if not good:
                raise ContractError(
                    f"{i.key}.{name}: {array.dtype} {array.shape} does not fit its json ({i.tokens} tokens)"
                )
        if self.reference.shape[2] != self.text.shape[1]:
            raise ContractError(
                f"{i.key}: reference width {self.reference.shape[2]} != text width {self.text.shape[1]}"
            )
        if i.tokens != 25 * i.samples_48k // 48_000 + 1:
            raise ContractError(f"{i.key}: {i.tokens} tokens do not fit {i.samples_48k} samples at 48 kHz")
        if "." in i.key or "/" in i.key:
            raise ContractError(f"key {i.key!r} must not contain '.' or '/'")
        if i.split in ("val", "test") and len(i.accompaniment_variants) != 1:
            raise ContractError(f"{i.key}: {i.split} samples have no variants, got {len(i.accompaniment_variants) - 1}")
        return self

    def to_files(self) -> dict[str, bytes]:
        """File extension -> bytes; the same sample gives the same bytes."""
        arrays = {
            "vocal": self.vocal,
            "accompaniment": self.accompaniment,
            "reference": self.reference,
            "text": self.text,
        }
        arrays |= {f"latent.{name}": value for name, value in self.latents.items()}
        info = json.dumps(asdict(self.info), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return {"json": info.encode()} | {f"{name}.npy": _npy(value) for name, value in sorted(arrays.items())}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; `ContractError` where a file is missing or of another schema version."""
        try:
            info = info_from_json(json.loads(files["json"]))
            arrays = {
                n: np.load(io.BytesIO(files[f"{n}.npy"])) for n in ("vocal", "accompaniment", "reference", "text")
            }
        except KeyError as error:
            raise ContractError(f"sample lacks {error}; it has {sorted(files)}") from error
        prefix, suffix = "latent.", ".npy"
        latents = {
            name[len(prefix) : -len(suffix)]: np.load(io.BytesIO(data))
            for name, data in files.items()
            if name.startswith(prefix) and name.endswith(suffix)
        }
        return cls(info=info, latents=latents, **arrays).validate()


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


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
