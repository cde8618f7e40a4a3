"""Annotation: what a song is, in words: captions of style, instruments and mood, the tags behind them, the lyrics.

Conventions: captions hold nothing about the singer, the tempo or the key (`pipeline.annotation.text.clean_text`); there
is always at least one caption, the given text first where the library has one. Lyrics are heard by a model of their
own, beside whichever backend writes the captions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field

from pipeline.assets.needs import SHIPPED, Needs, joined
from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio

VERSION = 4  # part of the stage's key: bump it when the answer of a backend changes
Precision = Literal["float32", "bfloat16", "float16"]


class CaptionConfig(Config):
    """How Qwen2-Audio is asked."""

    # Ours: the paper's text "only contains styles, instrumental, and emotional descriptions".
    prompt: str = (
        "Listen to this music and answer in three lines, each a few words separated by commas. "
        "'Style:' its genres. 'Instruments:' what plays. 'Mood:' its moods. "
        "Say nothing about the singer, the lyrics, the tempo or the key."
    )
    excerpts: int = Field(default=3, ge=1)  # of a song, evenly spread; ours
    excerpt_seconds: float = Field(default=30.0, gt=0, le=30)  # s; all that the model hears at once
    max_tokens: int = Field(default=96, ge=1)  # of an answer; three short lines take about 40. Ours
    # As its weights are published and its card runs them; with random ones its logits are 39 dB from float32's and
    # 98.5 % of the likeliest tokens the same (tests/pipeline/test_precision_published.py).
    precision: Literal["float32", "bfloat16"] = "bfloat16"


class LyricsConfig(Config):
    """Who writes down what is sung."""

    backend: Literal["none", "qwen3_asr", "whisper"] = "none"
    window_seconds: float = Field(default=30.0, gt=1, le=30)  # s at most; Whisper's limit
    search_seconds: float = Field(default=5.0, ge=0)  # s at a window's end, in which the quietest place is cut; ours
    max_tokens: int = Field(default=256, ge=1)  # of a window; 30 s of fast rap are about 150 words. Ours
    # bfloat16 as Qwen3-ASR is published: 40 dB, 99.5 % (as above). Whisper is published in float16, whose finer steps
    # suit it better: 64 dB and all tokens, 43 dB and 99.5 % in bfloat16.
    precision: Precision = "bfloat16"


class AnnotationConfig(Config):
    backend: Literal["musicnn", "qwen2_audio"] = "musicnn"
    device: Literal["cpu", "cuda"] = "cpu"  # of Qwen2-Audio and of the lyrics
    threshold: float = 0.10  # tag probability, mean over the song; ours: musicnn's tags are sparse, few exceed 0.2
    style_threshold: float = 0.6  # probability, by our head; ours: 26 of 41 mixes named, 81 % of them right
    instrument_threshold: float = 0.4  # the same for an instrument: F1 of a song 0.58 on these mixes; naive 0.25
    max_styles: int = 2  # words in the sentence
    max_instruments: int = 4  # words in the sentence
    max_moods: int = 2  # words in the sentence
    caption: CaptionConfig = CaptionConfig()  # qwen2_audio
    lyrics: LyricsConfig = LyricsConfig()


@dataclass(frozen=True, slots=True)
class Annotation:
    """The words of one song."""

    captions: tuple[str, ...]  # at least one
    tags: tuple[str, ...]  # most probable first
    lyrics: str  # empty where the backend hears none


class Annotator(Protocol):
    name: str
    config: AnnotationConfig
    backend: str
    weights_sha256: str
    licence: str

    def __call__(self, audio: Audio, given_text: str = "") -> Annotation:
        """Describe one song of any rate; `given_text` (from the manifest) is cleaned and becomes the first caption."""


@runtime_checkable
class BatchAnnotator(Protocol):
    """One whose batches several songs fill together."""

    def batch(self, songs: Sequence[tuple[Audio, str]]) -> list[Annotation]:
        """What it says of each song with its given text alone, bit for bit on the same machine."""


def annotate(annotator: Annotator, songs: Sequence[tuple[Audio, str]]) -> list[Annotation]:
    """Describe several songs with their given texts, at once where the annotator can."""
    if isinstance(annotator, BatchAnnotator):
        return annotator.batch(songs)
    return [annotator(audio, text) for audio, text in songs]


BACKENDS = {"musicnn": "pipeline.annotation.musicnn:build", "qwen2_audio": "pipeline.annotation.qwen2_audio:build"}
LYRICS_ASSETS = {"qwen3_asr": "qwen3-asr", "whisper": "whisper"}
# Weights in bf16 (8.4, 2.0 and 0.8 billion parameters), and 2 GB for a batch at work: computed, not measured.
CAPTION_GB, LYRICS_GB = 18.8, {"qwen3_asr": 6.7, "whisper": 3.6}
CAPTIONS_AT_ONCE, LYRICS_AT_ONCE = 120.0, 240.0  # s of audio; ours: four and eight pieces of 30 s
# s of songs that a worker hears at once. Ours: four of five minutes, whose twelve excerpts are three whole batches.
# Lyrics likewise: their 44 windows or so make six batches, where those of four songs alone make eight.
SONGS_AT_ONCE = 1200.0


def needs(config: AnnotationConfig) -> Needs:
    """What a worker of the chosen backends needs."""
    wanted = []
    if config.backend == "qwen2_audio":
        wanted.append(_needs("qwen2-audio", CAPTION_GB, CAPTIONS_AT_ONCE, config.caption.precision, cuda=True))
    if config.lyrics.backend != "none":
        name, size = LYRICS_ASSETS[config.lyrics.backend], LYRICS_GB[config.lyrics.backend]
        wanted.append(_needs(name, size, LYRICS_AT_ONCE, config.lyrics.precision, cuda=False))
    return joined(wanted) if wanted else SHIPPED


def _needs(asset: str, gigabytes: float, seconds: float, precision: Precision, cuda: bool) -> Needs:
    size = gigabytes * (2 if precision == "float32" else 1)
    return Needs(
        (asset,), cuda=cuda, gpu_memory_gb=size, memory_gb=size, batch_seconds=seconds, songs_seconds=SONGS_AT_ONCE
    )


def build(config: AnnotationConfig) -> Annotator:
    """Load the backend named in the config; `BackendUnavailable` if it or its weights are missing."""
    annotator: Annotator = load_backend("annotation", BACKENDS, config)
    if config.lyrics.backend == "none":
        return annotator
    from pipeline.annotation.lyrics import WithLyrics

    return WithLyrics(annotator)
