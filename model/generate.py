"""A vocal in, an accompaniment of exactly its length out.

Conventions: audio is worked on at 48 kHz; `T` codes at 25 Hz. The loudness rule acts as in training; its gain is undone
on the answer, which so sits with the vocal.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model import checkpoint
from model.config import SamplerConfig
from model.data import prefix
from model.denoising import Conditions, Frames, Progress, Song
from model.kinds import build_network
from model.players import player_of
from pipeline.audio import (
    DecodeLimits,
    apply_gain,
    as_stereo,
    peak_dbfs,
    resample,
    rms_dbfs,
    to_samples,
)
from pipeline.codec import codec as codecs
from pipeline.codec.codec import SAMPLE_RATE, Codec, Codes
from pipeline.conditioning import conditioner as conditioners
from pipeline.conditioning.conditioner import Conditioner
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.loudness import level
from pipeline.types import Audio


@dataclass(frozen=True, slots=True)
class Request:
    """One accompaniment that is wanted. Without text or reference their slots are null (see `sampler.missing_text`)."""

    vocal: Audio  # of any sample rate
    text: str | None
    reference: Audio | None
    seed: int
    fixed: NDArray[np.int64] | None = None  # [T] codes to keep, `FREE` elsewhere


@dataclass(frozen=True, slots=True)
class Generation:
    """An accompaniment and how it came about."""

    accompaniment: Audio  # stereo, 48 kHz, the vocal's length to the sample
    codes: Codes  # [T]; empty of a model of latents
    seconds: Mapping[str, float]  # wall clock of encode, denoise (its share of the batch), decode
    gain_db: float  # what the loudness rule did to the vocal
    played_gain_db: (
        float  # what was done to the decoded accompaniment: -gain_db, less where its peak would pass the limit
    )


@dataclass(frozen=True, slots=True)
class Voice:
    """A vocal as the model hears it."""

    codes: Frames  # [T]
    length: int  # samples at 48 kHz
    gain_db: float  # what the loudness rule did to it
    encode_seconds: float


class Generator:
    """A trained model with its codec and conditioner, ready to play along with any number of vocals.

    `BadInput` where `checkpoint_dir` holds no complete checkpoint, `BackendUnavailable` where a backend isn't the one
    that the model was trained with.
    """

    def __init__(self, checkpoint_dir: Path, device: str = "cpu") -> None:
        found = checkpoint.load(checkpoint_dir)
        self.path, self.run, self.progress = found.path, found.run, found.progress
        self.device = torch.device(device)
        on_cpu = {"device": "cpu"} if self.device.type == "cpu" else {}  # what was trained on a GPU plays without one
        self.codec = codecs.build(self.run.codec.model_copy(update=on_cpu))
        self.conditioner = conditioners.build(self.run.conditioning.model_copy(update=on_cpu))
        _check_backends(self.codec, self.conditioner, found)
        network = build_network(self.run.model, rtd=self.run.training.objective.rtd.weight > 0)
        network.load_state_dict(found.weights())
        self.network = network.to(self.device).eval()
        self.player = player_of(self.network, self.codec)

    def __call__(
        self,
        vocal: Audio,
        text: str | None,
        reference: Audio | None,
        sampler: SamplerConfig,
        seed: int,
        progress: Progress | None = None,
        fixed: NDArray[np.int64] | None = None,
    ) -> Generation:
        """`play` of one request."""
        return self.play([Request(vocal, text, reference, seed, fixed)], sampler, progress)[0]

    def play(
        self, requests: Sequence[Request], sampler: SamplerConfig, progress: Progress | None = None
    ) -> list[Generation]:
        """Play along with each vocal, all of them in one batch; one vocal in several requests is encoded once.

        `BadInput` for an empty, broken or silent vocal or reference, and for kept codes that are not as many as the
        vocal's. `sampler.seed` does nothing here: each request has its own.
        """
        voices: dict[int, Voice] = {}
        songs = []
        for request in requests:
            if id(request.vocal) not in voices:
                voices[id(request.vocal)] = self._heard(request.vocal)
            conditions = self.conditions(request.text, request.reference, sampler)
            songs.append(Song(voices[id(request.vocal)].codes, conditions, request.seed, request.fixed))
        shared: dict[str, float] = {}
        with _timed(shared, "denoise"):
            codes = self.player.drawn(songs, sampler, progress)
        share = shared["denoise"] / len(requests)
        return [
            self._played(voices[id(request.vocal)], one, share) for request, one in zip(requests, codes, strict=True)
        ]

    def _heard(self, vocal: Audio) -> Voice:
        seconds: dict[str, float] = {}
        with _timed(seconds, "encode"):
            audio = at_48k(usable(vocal, "vocal"))
            levelled, gain_db = level(audio, self.run.loudness)
            codes = self.player.heard(levelled)
        return Voice(codes, audio.length, gain_db, seconds["encode"])

    def _played(self, voice: Voice, codes: Frames, denoise_seconds: float) -> Generation:
        seconds = {"encode": voice.encode_seconds, "denoise": denoise_seconds}
        with _timed(seconds, "decode"):
            played = as_stereo(self.player.sound(codes))
            played = Audio(played.samples[:, : voice.length], SAMPLE_RATE)
            played_gain_db = min(-voice.gain_db, self.run.loudness.peak - peak_dbfs(played))
            accompaniment = apply_gain(played, played_gain_db)
        return Generation(accompaniment, self.player.codes(codes), seconds, voice.gain_db, played_gain_db)

    def conditions(self, text: str | None, reference: Audio | None, sampler: SamplerConfig) -> Conditions:
        """Prefix vectors and missing slots of a request, in the order that the sampler asks for."""
        words = "" if text is None and sampler.missing_text == "empty_text" else text
        spoken = None if words is None else self.conditioner.text([words])[0]
        heard = None if reference is None else self.conditioner.audio(self._reference(reference))
        vectors = torch.from_numpy(prefix(spoken, heard, self.conditioner.spec.width))
        missing = torch.tensor([spoken is None, heard is None])
        if sampler.prefix_order == "reference_text":
            vectors, missing = vectors.flip(0), missing.flip(0)
        return Conditions(vectors.to(self.device), missing.to(self.device))

    def _reference(self, audio: Audio) -> Audio:
        """The middle of the reference, of the recipe's length or its own if shorter, mono, under the loudness rule."""
        audio, _ = level(at_48k(usable(audio, "reference")), self.run.loudness)
        length = min(audio.length, to_samples(self.run.conditioning.reference_seconds, SAMPLE_RATE))
        start = (audio.length - length) // 2
        return Audio(audio.samples[:, start : start + length], SAMPLE_RATE).mono()


def usable(audio: Audio, name: str) -> Audio:
    """The audio itself; `BadInput` (empty, not_finite, silent) where nothing can be played along with."""
    if audio.length == 0:
        raise BadInput(f"the {name} holds no audio (0 samples)", "empty")
    if not np.isfinite(audio.samples).all():
        raise BadInput(f"the {name} holds NaN or infinite samples; export it again", "not_finite")
    level, limit = rms_dbfs(audio), DecodeLimits().silence_dbfs
    if level < limit:
        raise BadInput(f"the {name} is silent: {level:.1f} dBFS RMS, limit {limit} dBFS", "silent")
    return audio


def at_48k(audio: Audio) -> Audio:
    """48 kHz, one or two channels; more become their mean."""
    return resample(audio if audio.channels <= 2 else audio.mono(), SAMPLE_RATE)


def _check_backends(codec: Codec, conditioner: Conditioner, found: checkpoint.Checkpoint) -> None:
    pairs = (
        ("codec", codec.spec.weights_sha256, found.progress.codec_sha256),
        ("conditioner", conditioner.spec.weights_sha256, found.progress.conditioner_sha256),
    )
    for name, here, trained in pairs:
        if trained and here != trained:
            raise BackendUnavailable(
                f"{found.path} was trained with {name} weights {trained[:12]}, here are {here[:12]}; install those"
            )
    if conditioner.spec.width != found.run.model.prefix_width:
        raise BackendUnavailable(
            f"the conditioner gives {conditioner.spec.width} values, the model takes {found.run.model.prefix_width}"
        )


@contextmanager
def _timed(seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - start
