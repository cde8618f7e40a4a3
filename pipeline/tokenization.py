"""Tokenization: the two stems of each song -> codes, and prefix vectors of its captions and of its accompaniment.

Conventions: stems are 48 kHz and of one length; `F`, `T`, `V`, `R`, `C`, `W` as in `pipeline.records.schema`; variant 0
is clean. The filters act on audio, before encoding; the loudness rule acts after them, over the whole song. Every
variant of the accompaniment and of the reference has a draw of its own, seeded by (dataset seed, key, stream, variant),
so that order and workers change nothing. One caption is one vector, independent of the others.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from pipeline.audio import to_samples, to_seconds
from pipeline.augmentation import BalanceConfig, apply_filters, balance_filters
from pipeline.codec.codec import (
    SAMPLE_RATE,
    SAMPLES_PER_CODE,
    Codec,
    Codes,
    ContinuousCodec,
    continuous,
    encode_all,
    latents_of_all,
    token_count,
)
from pipeline.conditioning.conditioner import Conditioner, ConditionerSpec, audio_vectors, text_vectors
from pipeline.config import Config
from pipeline.loudness import LoudnessConfig, level
from pipeline.records.schema import FilterRecord, VariantRecord
from pipeline.separation.stage import Stems
from pipeline.types import Audio, Seconds

NAME, VERSION = "tokenization", 2
Filters = tuple[FilterRecord, ...]
Stream = Literal["vocal", "accompaniment", "reference"]
ENCODED: tuple[Stream, ...] = ("vocal", "accompaniment")
DRAWN: tuple[Stream, ...] = ("accompaniment", "reference")
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


@dataclass(frozen=True, slots=True)
class Song:
    """What is tokenized: one song, or one stretched copy. `ValueError` for stems of another rate or unequal lengths."""

    stems: Stems
    captions: tuple[str, ...]
    key: str  # of its draws; tells songs and copies apart
    training: bool  # only such get variants

    def __post_init__(self) -> None:
        both = (self.stems.vocal, self.stems.accompaniment)
        rates, lengths = [audio.sample_rate for audio in both], [audio.length for audio in both]
        if rates != [SAMPLE_RATE] * 2 or lengths[0] != lengths[1]:
            told = f"got {rates} Hz and {lengths} samples"
            raise ValueError(f"stems must be {SAMPLE_RATE} Hz and equally long, {told}")


def tokenize_all(
    config: TokenizationConfig,
    balance: BalanceConfig,
    codec: Codec,
    conditioner: Conditioner,
    songs: Sequence[Song],
    seed: int,
) -> list[Tokens]:
    """Tokens of each song, those that it has alone; windows of several fill the backends' batches together.

    A song shorter than one reference window has R = 0. A variant is made when its turn comes: of all songs one variant
    is in memory at a time. `BackendUnavailable` for latents of a codec that has none.
    """
    works = [_Work(config, balance, conditioner.spec, song, seed) for song in songs]
    codes = iter(encode_all(codec, (audio for work in works for name in ENCODED for audio in work.sounds(name))))
    coded = [{name: work.stacked(name, codes) for name in ENCODED} for work in works]
    pieces = (piece for work in works for audio in work.sounds("reference") for piece in work.windows(audio))
    vectors = iter(audio_vectors(conditioner, pieces).astype(np.float16))
    heard = [work.stacked("reference", work.by_window(vectors)) for work in works]
    said = iter(text_vectors(conditioner, [caption for song in songs for caption in song.captions]).astype(np.float16))
    texts = [_taken(said, len(song.captions), conditioner.spec.width) for song in songs]
    latents = _latents(continuous(codec), works) if config.latents else [{} for _ in songs]
    parts = zip(works, coded, heard, texts, latents, strict=True)
    return [work.told(code, reference, text, latent) for work, code, reference, text, latent in parts]


def slice_agreements(codec: Codec, songs: Sequence[Audio], crop_tokens: int, crops: int, seed: int) -> list[float]:
    """Share of codes, 0..1, that slices of a song's codes have in common with the codes of the cropped audio.

    Compared are crops of `crop_tokens` without `context_frames` at either edge. 1 where training may slice; NaN for a
    song that is too short. Of several songs, encoded at once where the codec can.
    """
    margin = codec.spec.context_frames
    starts = [_crops(token_count(song.length), crop_tokens, margin, crops, seed) for song in songs]
    cut = (piece for song, firsts in zip(songs, starts, strict=True) for piece in _parts(song, firsts, crop_tokens))
    codes = iter(encode_all(codec, cut))
    return [_agreement(codes, firsts, crop_tokens, margin) for firsts in starts]


def _crops(total: int, crop_tokens: int, margin: int, crops: int, seed: int) -> list[int]:
    """First codes; none where the song or what is compared is too short."""
    if total <= crop_tokens or crop_tokens <= 2 * margin:
        return []
    return [int(first) for first in np.random.default_rng(seed).integers(0, total - crop_tokens, crops)]


def _parts(song: Audio, firsts: Sequence[int], crop_tokens: int) -> Iterator[Audio]:
    """The song and its crops; nothing where there are none."""
    if firsts:
        yield song
    for first in firsts:
        part = song.samples[:, first * SAMPLES_PER_CODE : (first + crop_tokens) * SAMPLES_PER_CODE]
        yield Audio(part, song.sample_rate)


def _agreement(codes: Iterator[Codes], firsts: Sequence[int], crop_tokens: int, margin: int) -> float:
    if not firsts:
        return float("nan")
    whole, equal = next(codes), []
    for first in firsts:
        inner = next(codes)[:, margin : crop_tokens - margin]
        equal.append(float(np.mean(inner == whole[:, first + margin : first + crop_tokens - margin])))
    return float(np.mean(equal))


class _Work:
    """One song under way: its draws, and the gains that making its sounds told."""

    def __init__(
        self, config: TokenizationConfig, balance: BalanceConfig, spec: ConditionerSpec, song: Song, seed: int
    ) -> None:
        self.song, self.config, self.spec = song, config, spec
        variants = config.variants if song.training else 0
        self.draws: dict[Stream, list[Filters]] = {"vocal": [()]}
        for name in DRAWN:
            self.draws[name] = _draws(balance, variants, seed, song.key, name)
        self.gains: dict[tuple[Stream, Filters], float] = {}
        self.spans = _windows(song.stems.accompaniment.length, spec.reference_seconds, config.reference_hop_seconds)

    def sounds(self, stream: Stream) -> Iterator[Audio]:
        """Filtered and levelled, once for each distinct draw."""
        audio = self.song.stems.vocal if stream == "vocal" else self.song.stems.accompaniment
        for filters in dict.fromkeys(self.draws[stream]):
            levelled, self.gains[stream, filters] = level(apply_filters(audio, filters), self.config.loudness)
            yield levelled

    def stacked(self, stream: Stream, answers: Iterator[NDArray[Kind]]) -> NDArray[Kind]:
        """The next answers, one for each of `sounds`, in the order of the draws."""
        done = {filters: next(answers) for filters in dict.fromkeys(self.draws[stream])}
        return np.stack([done[filters] for filters in self.draws[stream]])

    def windows(self, audio: Audio) -> Iterator[Audio]:
        """The reference windows of one of its sounds, mono."""
        mono = audio.mono()
        return (Audio(mono.samples[:, start:stop], SAMPLE_RATE) for start, stop in self.spans)

    def by_window(self, vectors: Iterator[NDArray[np.float16]]) -> Iterator[NDArray[np.float16]]:
        """``[R, W]`` of each sound, of its windows' next vectors."""
        while True:
            yield _taken(vectors, len(self.spans), self.spec.width)

    def records(self, stream: Stream) -> tuple[VariantRecord, ...]:
        return tuple(VariantRecord(filters, self.gains[stream, filters]) for filters in self.draws[stream])

    def told(
        self,
        codes: Mapping[Stream, Codes],
        reference: NDArray[np.float16],
        text: NDArray[np.float16],
        latents: Mapping[str, NDArray[np.float16]],
    ) -> Tokens:
        return Tokens(
            vocal=codes["vocal"][0],
            accompaniment=codes["accompaniment"],
            reference=reference,
            text=text,
            samples_48k=self.song.stems.vocal.length,
            vocal_gain_db=self.gains["vocal", ()],
            accompaniment_variants=self.records("accompaniment"),
            reference_variants=self.records("reference"),
            reference_spans=tuple((to_seconds(a, SAMPLE_RATE), to_seconds(b, SAMPLE_RATE)) for a, b in self.spans),
            latents=latents,
        )


def _draws(balance: BalanceConfig, variants: int, seed: int, key: str, stream: str) -> list[Filters]:
    """The filters of each variant: none for the clean one, and for the draws that leave the song as it is."""
    draws: list[Filters] = [()]
    for variant in range(1, variants + 1):
        digest = hashlib.sha256(f"{NAME}:{seed}:{key}:{stream}:{variant}".encode()).digest()
        draws.append(balance_filters(balance, np.random.default_rng(int.from_bytes(digest))))
    return draws


def _latents(codec: ContinuousCodec, works: Sequence[_Work]) -> list[dict[str, NDArray[np.float16]]]:
    """What the codes quantise: of the levelled vocal, and of each variant of the accompaniment."""
    made = latents_of_all(codec, (audio for work in works for name in ENCODED for audio in work.sounds(name)))
    answers = (latent.astype(np.float16)[None] for latent in made)
    found = [{name: work.stacked(name, answers) for name in ENCODED} for work in works]
    return [{"vocal": one["vocal"][0], "accompaniment": one["accompaniment"]} for one in found]


def _windows(length: int, window_seconds: Seconds, hop_seconds: Seconds) -> list[tuple[int, int]]:
    """Reference windows ``[start, stop)`` in samples; the last one ends with the song."""
    window, hop = (to_samples(s, SAMPLE_RATE) for s in (window_seconds, hop_seconds))
    if length < window:
        return []
    starts = [*range(0, length - window, hop), length - window]
    return [(start, start + window) for start in starts]


def _taken(vectors: Iterator[NDArray[np.float16]], count: int, width: int) -> NDArray[np.float16]:
    """``[count, width]``: the next vectors."""
    return np.array([next(vectors) for _ in range(count)], np.float16).reshape(count, width)
