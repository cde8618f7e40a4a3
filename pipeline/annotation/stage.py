"""Annotation: what a song is, in words: captions of style, instruments and mood, the tags behind them, the lyrics.

Conventions: captions hold nothing about the singer, the tempo or the key (`pipeline.annotation.text.clean_text`); there
is always at least one caption, the given text first where the library has one.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio

VERSION = 2  # part of the stage's key: bump it when the answer of a backend changes


class AnnotationConfig(Config):
    backend: Literal["musicnn"] = "musicnn"  # "qwen2_audio" arrives with its port
    threshold: float = 0.10  # tag probability, mean over the song; ours: musicnn's tags are sparse, few exceed 0.2
    style_threshold: float = 0.6  # probability, by our head; ours: 26 of 41 mixes named, 81 % of them right
    instrument_threshold: float = 0.4  # the same for an instrument: F1 of a song 0.58 on these mixes; naive 0.25
    max_styles: int = 2  # words in the sentence
    max_instruments: int = 4  # words in the sentence
    max_moods: int = 2  # words in the sentence


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


BACKENDS = {"musicnn": "pipeline.annotation.musicnn:build"}


def build(config: AnnotationConfig) -> Annotator:
    """Load the backend named in the config; `BackendUnavailable` if it or its weights are missing."""
    annotator: Annotator = load_backend("annotation", BACKENDS, config)
    return annotator
