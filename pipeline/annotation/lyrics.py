"""Lyrics: a speech recogniser of transformers hears the song in windows that are cut where it is quiet.

Conventions: windows are mono at 16 kHz, at most 30 s, in order and without overlap; one line of text a window, empty
lines left out; greedy. Sources: Qwen3-ASR (2026) in transformers' own port, Whisper (Radford et al., 2022).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor, Qwen3ASRForConditionalGeneration, WhisperForConditionalGeneration

from pipeline.annotation.stage import LYRICS_ASSETS, LYRICS_AT_ONCE, Annotation, Annotator, LyricsConfig, annotate
from pipeline.assets.store import combined, held
from pipeline.audio import resample
from pipeline.batching import in_batches
from pipeline.encoders.published import DTYPES, load_network, load_processor
from pipeline.types import Audio

SAMPLE_RATE = 16_000  # Hz, of both models
STEP = 160  # samples between the places that are compared for quiet; 10 ms
AROUND = 800  # samples on either side that count for a place's level; 50 ms
NETWORKS: dict[str, Any] = {"qwen3_asr": Qwen3ASRForConditionalGeneration, "whisper": WhisperForConditionalGeneration}


class WithLyrics:
    """An annotator and the recogniser beside it."""

    name = "annotation"

    def __init__(self, annotator: Annotator) -> None:
        self.config = annotator.config
        self._annotator = annotator
        self._recogniser = Recogniser(self.config.lyrics, self.config.device)
        both = f"{annotator.weights_sha256} {self._recogniser.weights_sha256}"
        self.backend = f"{annotator.backend}+{self.config.lyrics.backend}"
        self.weights_sha256 = hashlib.sha256(both.encode()).hexdigest()
        self.licence = f"{annotator.licence}; lyrics {self._recogniser.licence}"

    def __call__(self, audio: Audio, given_text: str = "") -> Annotation:
        return self.batch([(audio, given_text)])[0]

    def batch(self, songs: Sequence[tuple[Audio, str]]) -> list[Annotation]:
        told = annotate(self._annotator, songs)
        return [replace(one, lyrics=self._recogniser(audio)) for one, (audio, _) in zip(told, songs, strict=True)]


class Recogniser:
    """`BackendUnavailable` where the chosen model's weights are not on this machine or do not fit."""

    def __init__(self, config: LyricsConfig, device: str) -> None:
        self.config = config
        weights = held(LYRICS_ASSETS[config.backend])
        self.weights_sha256, self.licence = combined((weights,))
        self._processor = load_processor(AutoProcessor, weights)
        self._network = load_network(NETWORKS[config.backend], weights, config.precision, device)

    def __call__(self, audio: Audio) -> str:
        """What is sung, one line a window; empty where nothing was heard."""
        c = self.config
        samples = resample(audio.mono(), SAMPLE_RATE).samples[0]
        pieces = windows(samples, round(c.window_seconds * SAMPLE_RATE), round(c.search_seconds * SAMPLE_RATE))
        size = max(1, int(LYRICS_AT_ONCE / c.window_seconds))
        return "\n".join(line for line in in_batches(pieces, size, self._lines, c.backend) if line)

    @torch.inference_mode()
    def _lines(self, pieces: Sequence[NDArray[np.float32]]) -> list[str]:
        asked = self._asked(list(pieces)).to(self._network.device)
        asked["input_features"] = asked["input_features"].to(DTYPES[self.config.precision])
        said = self._network.generate(**asked, max_new_tokens=self.config.max_tokens, do_sample=False)
        if self.config.backend == "qwen3_asr":
            said = said[:, asked["input_ids"].shape[1] :]
            lines = self._processor.decode(said, return_format="transcription_only")
        else:
            lines = self._processor.batch_decode(said, skip_special_tokens=True)
        return [" ".join(line.split()) for line in lines]

    def _asked(self, pieces: list[NDArray[np.float32]]) -> Any:
        if self.config.backend == "qwen3_asr":
            return self._processor.apply_transcription_request(audio=pieces)
        return self._processor(audio=pieces, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True)


def windows(samples: NDArray[np.float32], longest: int, search: int) -> list[NDArray[np.float32]]:
    """Pieces of at most `longest` samples that make up the whole, cut at the quietest place of their last `search`."""
    pieces, start = [], 0
    while len(samples) - start > longest:
        end = start + longest - search + quietest(samples[start + longest - search : start + longest])
        pieces.append(samples[start:end])
        start = end
    return [*pieces, samples[start:]]


def quietest(samples: NDArray[np.float32]) -> int:
    """Index around which the mean square is least, the last such one; the end where there is nothing to choose."""
    if len(samples) < 2 * AROUND:
        return len(samples)
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    places = np.arange(AROUND, len(samples) - AROUND + 1, STEP)
    levels = power[places + AROUND] - power[places - AROUND]
    return int(places[len(places) - 1 - int(np.argmin(levels[::-1]))])
