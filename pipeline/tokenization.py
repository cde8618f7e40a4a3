"""Tokenization: the two stems of one song -> codes, and prefix vectors of its captions and of its accompaniment.

Conventions: stems are 48 kHz and of one length; `F`, `T`, `V`, `R`, `C`, `W` as in `pipeline.records.schema`; variant 0
is clean. The filters act on audio, before encoding; the loudness rule acts after them, over the whole song. Every
variant of the accompaniment and of the reference has a draw of its own, seeded by (dataset seed, key, stream, variant),
so that order and workers change nothing. One caption is one vector, independent of the others.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from pipeline.audio import to_samples, to_seconds
from pipeline.augmentation import BalanceConfig, apply_filters, balance_filters
from pipeline.codec.codec import SAMPLE_RATE, SAMPLES_PER_CODE, Codec, Codes, continuous
from pipeline.conditioning.conditioner import Conditioner
from pipeline.config import Config
from pipeline.loudness import LoudnessConfig, level
from pipeline.records.schema import FilterRecord, VariantRecord
from pipeline.separation.stage import Stems
from pipeline.types import Audio, Seconds

NAME, VERSION = "tokenization", 2
Filters = tuple[FilterRecord, ...]
Kind = TypeVar("Kind", np.uint16, np.float16)


class TokenizationConfig(Config):
    variants: int = Field(default=4, ge=0)  # V, frequency-balanced copies of a train song; ours: >= 4
    loudness: LoudnessConfig = LoudnessConfig()  # of every stream, after its filters
    reference_hop_seconds: PositiveFloat = 10.24  # s, at most
    latents: bool = False  # keep the codec's continuous latents too, for the ablation `continuous`


@dataclass(frozen=True, slots=True)
class Tokens:
    """The arrays of one sample and how they were made: four fields of `Sample`, five of `SampleInfo`."""

    vocal: Codes  # [F, T]
    accompaniment: Codes  # [1+V, F, T]
    reference: NDArray[np.float16]  # [1+V, R, W]
    text: NDArray[np.float16]  # [C, W]
    samples_48k: int
    vocal_gain_db: float
    accompaniment_variants: tuple[VariantRecord, ...]  # 1+V
    reference_variants: tuple[VariantRecord, ...]  # 1+V
    reference_spans: tuple[tuple[float, float], ...]  # R, s
    latents: Mapping[str, NDArray[np.float16]] = field(default_factory=dict)  # as in `Sample`; empty unless asked for


def tokenize(
    config: TokenizationConfig,
    balance: BalanceConfig,
    codec: Codec,
    conditioner: Conditioner,
    stems: Stems,
    captions: Sequence[str],
    seed: int,
    key: str,
    *,
    training: bool,
) -> Tokens:
    """Tokens of one song (or of one stretched copy: `key` tells them apart). Only `training` samples get variants.

    A song shorter than one reference window has R = 0. `ValueError` for stems of another rate or of different lengths;
    `BackendUnavailable` for latents of a codec that has none.
    """
    _check(stems)
    variants = config.variants if training else 0
    draws = {stream: _draws(balance, variants, seed, key, stream) for stream in ("accompaniment", "reference")}
    spans = _windows(stems.accompaniment.length, conditioner.spec.reference_seconds, config.reference_hop_seconds)
    vocal, vocal_gain = level(stems.vocal, config.loudness)
    codes, songs = _each(stems.accompaniment, draws["accompaniment"], config, codec.encode)
    measure = partial(_vectors, conditioner, spans)
    vectors, references = _each(stems.accompaniment, draws["reference"], config, measure)
    return Tokens(
        vocal=codec.encode(vocal),
        accompaniment=codes,
        reference=vectors,
        text=_rows([conditioner.text([caption])[0] for caption in captions], conditioner.spec.width),
        samples_48k=vocal.length,
        vocal_gain_db=vocal_gain,
        accompaniment_variants=songs,
        reference_variants=references,
        reference_spans=tuple((to_seconds(a, SAMPLE_RATE), to_seconds(b, SAMPLE_RATE)) for a, b in spans),
        latents=_latents(codec, vocal, stems.accompaniment, draws["accompaniment"], config) if config.latents else {},
    )


def slice_agreement(codec: Codec, audio: Audio, crop_tokens: int, crops: int, seed: int) -> float:
    """Share of codes, 0..1, that slices of the song's codes have in common with the codes of the cropped audio.

    Compared are crops of `crop_tokens` without `context_frames` at either edge. 1 where training may slice; NaN for a
    song that is too short.
    """
    margin, whole = codec.spec.context_frames, codec.encode(audio)
    rng = np.random.default_rng(seed)
    if whole.shape[1] <= crop_tokens or crop_tokens <= 2 * margin:
        return float("nan")
    equal = []
    for start in rng.integers(0, whole.shape[1] - crop_tokens, crops):
        first, last = int(start), int(start) + crop_tokens
        part = Audio(audio.samples[:, first * SAMPLES_PER_CODE : last * SAMPLES_PER_CODE], audio.sample_rate)
        inner = codec.encode(part)[:, margin : crop_tokens - margin]
        equal.append(float(np.mean(inner == whole[:, first + margin : last - margin])))
    return float(np.mean(equal))


def _check(stems: Stems) -> None:
    rates, lengths = [[getattr(s, n) for s in (stems.vocal, stems.accompaniment)] for n in ("sample_rate", "length")]
    if rates != [SAMPLE_RATE] * 2 or lengths[0] != lengths[1]:
        raise ValueError(f"stems must be {SAMPLE_RATE} Hz and equally long, got {rates} Hz and {lengths} samples")


def _draws(balance: BalanceConfig, variants: int, seed: int, key: str, stream: str) -> list[Filters]:
    """The filters of each variant: none for the clean one, and for the draws that leave the song as it is."""
    draws: list[Filters] = [()]
    for variant in range(1, variants + 1):
        digest = hashlib.sha256(f"{NAME}:{seed}:{key}:{stream}:{variant}".encode()).digest()
        draws.append(balance_filters(balance, np.random.default_rng(int.from_bytes(digest))))
    return draws


def _each(
    audio: Audio, draws: Sequence[Filters], config: TokenizationConfig, measure: Callable[[Audio], NDArray[Kind]]
) -> tuple[NDArray[Kind], tuple[VariantRecord, ...]]:
    """Filter, level and measure the song once for each distinct draw; answers stacked in the order of the draws."""
    done: dict[Filters, tuple[NDArray[Kind], VariantRecord]] = {}
    for filters in dict.fromkeys(draws):
        levelled, gain = level(apply_filters(audio, filters), config.loudness)
        done[filters] = measure(levelled), VariantRecord(filters, gain)
    return np.stack([done[filters][0] for filters in draws]), tuple(done[filters][1] for filters in draws)


def _latents(
    codec: Codec, vocal: Audio, accompaniment: Audio, draws: Sequence[Filters], config: TokenizationConfig
) -> dict[str, NDArray[np.float16]]:
    """What the codes quantise: of the levelled vocal, and of each variant of the accompaniment."""
    source = continuous(codec)

    def measure(audio: Audio) -> NDArray[np.float16]:
        return source.latents(audio).astype(np.float16)[None]

    return {"vocal": measure(vocal), "accompaniment": _each(accompaniment, draws, config, measure)[0]}


def _windows(length: int, window_seconds: Seconds, hop_seconds: Seconds) -> list[tuple[int, int]]:
    """Reference windows ``[start, stop)`` in samples; the last one ends with the song."""
    window, hop = (to_samples(s, SAMPLE_RATE) for s in (window_seconds, hop_seconds))
    if length < window:
        return []
    starts = [*range(0, length - window, hop), length - window]
    return [(start, start + window) for start in starts]


def _vectors(conditioner: Conditioner, spans: Sequence[tuple[int, int]], audio: Audio) -> NDArray[np.float16]:
    mono = audio.mono()
    windows = [Audio(mono.samples[:, start:stop], SAMPLE_RATE) for start, stop in spans]
    return _rows([conditioner.audio(window) for window in windows], conditioner.spec.width)


def _rows(vectors: Sequence[NDArray[np.float32]], width: int) -> NDArray[np.float16]:
    return np.array(vectors, dtype=np.float16).reshape(len(vectors), width)
