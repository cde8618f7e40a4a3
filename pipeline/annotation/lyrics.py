"""Lyrics: a speech recogniser of transformers hears the song in windows that are cut where it is quiet.

Conventions: windows are mono at 16 kHz, at most 30 s, in order and without overlap; one line of text a window, empty
lines left out; greedy. Sources: Qwen3-ASR (2026) in transformers' own port, Whisper (Radford et al., 2022).

Windows are of unequal lengths, and those of several songs share batches on a GPU. Each is made ready by itself, so that
none is padded by another's length: Whisper's features are always those of 30 s; Qwen3-ASR's audio tower hears one
window at a time (in a batch, transformers' port has the last states of a shorter window hear its padding), and its
language model gets prompts of one length, that of the longest window, with unused places before them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
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
Samples = NDArray[np.float32]
Ready = dict[str, Tensor]
"""What a network is asked about one window, by argument of `generate`; a batch of one."""
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
        lyrics = self._recogniser.batch([audio for audio, _ in songs])
        return [replace(one, lyrics=text) for one, text in zip(told, lyrics, strict=True)]


class Recogniser:
    """`BackendUnavailable` where the chosen model's weights are not on this machine or do not fit."""

    def __init__(self, config: LyricsConfig, device: str) -> None:
        self.config = config
        weights = held(LYRICS_ASSETS[config.backend])
        self.weights_sha256, self.licence = combined((weights,))
        self._processor = load_processor(AutoProcessor, weights)
        self._network = load_network(NETWORKS[config.backend], weights, config.precision, device)
        self.shared = device == "cuda"  # on a CPU the copies that make a batch whole cost more than they gain

    def __call__(self, audio: Audio) -> str:
        """What is sung, one line a window; empty where nothing was heard."""
        return self.batch([audio])[0]

    def batch(self, songs: Sequence[Audio]) -> list[str]:
        """The same of each of several songs, whose windows fill the batches together on a GPU."""
        return self._heard(songs) if self.shared else [self._heard([audio])[0] for audio in songs]

    @torch.inference_mode()
    def _heard(self, songs: Sequence[Audio]) -> list[str]:
        c = self.config
        longest, search = round(c.window_seconds * SAMPLE_RATE), round(c.search_seconds * SAMPLE_RATE)
        cut = [windows(resample(audio.mono(), SAMPLE_RATE).samples[0], longest, search) for audio in songs]
        ready = in_batches((window for own in cut for window in own), 1, self._ready, c.backend)
        size = max(1, int(LYRICS_AT_ONCE / c.window_seconds))
        lines = iter(in_batches(ready, size, self._lines, c.backend, filled=self.shared))
        return ["\n".join(line for line in [next(lines) for _ in own] if line) for own in cut]

    def _ready(self, pieces: Sequence[Samples]) -> list[Ready]:
        return [
            self._request(piece) if self.config.backend == "qwen3_asr" else self._features(piece) for piece in pieces
        ]

    def _lines(self, batch: Sequence[Ready]) -> list[str]:
        asked = {name: torch.cat([ready[name] for ready in batch]) for name in batch[0]}
        said = self._network.generate(**asked, max_new_tokens=self.config.max_tokens, do_sample=False)
        if self.config.backend == "qwen3_asr":
            lines = self._processor.decode(said, return_format="transcription_only")
        else:
            lines = self._processor.batch_decode(said, skip_special_tokens=True)
        return [" ".join(line.split()) for line in lines]

    def _features(self, piece: Samples) -> Ready:
        """For Whisper: a spectrogram of 30 s."""
        heard = self._asked([piece]).to(self._network.device)
        return {**heard, "input_features": heard["input_features"].to(DTYPES[self.config.precision])}

    def _request(self, piece: Samples) -> Ready:
        """For Qwen3-ASR: a prompt with the window's states in it, behind as many unused places as it is shorter."""
        asked = self._asked([piece]).to(self._network.device)
        features = asked["input_features"].to(DTYPES[self.config.precision])
        ids, mask = asked["input_ids"], asked["attention_mask"]
        prompt = self._network.get_input_embeddings()(ids)
        heard = self._network.get_audio_features(features, asked["input_features_mask"]).pooler_output
        prompt[ids == self._network.config.audio_token_id] = heard.to(prompt.dtype)
        unused = self._longest - ids.shape[1]
        return {"inputs_embeds": F.pad(prompt, (0, 0, unused, 0)), "attention_mask": F.pad(mask, (unused, 0))}

    @cached_property
    def _longest(self) -> int:
        """Places in the prompt of the longest window."""
        silence = np.zeros(round(self.config.window_seconds * SAMPLE_RATE), np.float32)
        return int(self._asked([silence])["input_ids"].shape[1])

    def _asked(self, pieces: list[Samples]) -> Any:
        if self.config.backend == "qwen3_asr":
            return self._processor.apply_transcription_request(audio=pieces)
        return self._processor(audio=pieces, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True)


def windows(samples: Samples, longest: int, search: int) -> list[Samples]:
    """Pieces of at most `longest` samples that make up the whole, cut at the quietest place of their last `search`."""
    pieces, start = [], 0
    while len(samples) - start > longest:
        end = start + longest - search + quietest(samples[start + longest - search : start + longest])
        pieces.append(samples[start:end])
        start = end
    return [*pieces, samples[start:]]


def quietest(samples: Samples) -> int:
    """Index around which the mean square is least, the last such one; the end where there is nothing to choose."""
    if len(samples) < 2 * AROUND:
        return len(samples)
    power = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    places = np.arange(AROUND, len(samples) - AROUND + 1, STEP)
    levels = power[places + AROUND] - power[places - AROUND]
    return int(places[len(places) - 1 - int(np.argmin(levels[::-1]))])
