"""A vocal in, an accompaniment of exactly its length out.

Conventions: audio is worked on at 48 kHz; `T` codes at 25 Hz; `G` guidance variants of the one song are the rows of a
batch. The loudness rule acts as in training; its gain is undone on the answer, which so sits with the vocal.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import checkpoint
from model.config import SamplerConfig
from model.data import prefix
from model.network import MaskPredictor
from model.sampling import FREE, Predict, guide, plan_windows, sample
from model.schedule import generator
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

Progress = Callable[[int, int], None]  # denoising steps done, in all


@dataclass(frozen=True, slots=True)
class Generation:
    """An accompaniment and how it came about."""

    accompaniment: Audio  # stereo, 48 kHz, the vocal's length to the sample
    codes: NDArray[np.uint16]  # [T]
    seconds: Mapping[str, float]  # wall clock of encode, denoise, decode
    gain_db: float  # what the loudness rule did to the vocal
    played_gain_db: (
        float  # what was done to the decoded accompaniment: -gain_db, less where its peak would pass the limit
    )


@dataclass(frozen=True, slots=True)
class Conditions:
    """The prefix of one generation."""

    vectors_PW: Tensor  # float32
    missing_P: Tensor  # bool: the slot holds the null vector


class Generator:
    """A trained model with its codec and conditioner, ready to play along with any number of vocals.

    `BadInput` where `checkpoint_dir` holds no complete checkpoint, `BackendUnavailable` where a backend isn't the one
    that the model was trained with.
    """

    def __init__(self, checkpoint_dir: Path, device: str = "cpu") -> None:
        found = checkpoint.load(checkpoint_dir)
        self.path, self.run, self.progress = found.path, found.run, found.progress
        self.device = torch.device(device)
        self.codec = codecs.build(self.run.codec)
        self.conditioner = conditioners.build(self.run.conditioning)
        _check_backends(self.codec, self.conditioner, found)
        network = MaskPredictor(self.run.model, rtd=self.run.training.objective.rtd.weight > 0)
        network.load_state_dict(found.weights())
        self.network = network.to(self.device).eval()

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
        """Play along with `vocal` of any sample rate; `BadInput` for an empty, broken or silent one.

        Without text or reference their slots are null (or the empty text's vector, see `sampler.missing_text`). Of
        `fixed` codes ``[T]`` those that are not `FREE` stay; `BadInput` where they are not as many as the vocal's.
        """
        seconds: dict[str, float] = {}
        with _timed(seconds, "encode"):
            voice = at_48k(usable(vocal, "vocal"))
            levelled, gain_db = level(voice, self.run.loudness)
            vocal_codes = self.codec.encode(levelled)[0]
            conditions = self.conditions(text, reference, sampler)
        with _timed(seconds, "denoise"):
            codes = denoise(self.network, vocal_codes, conditions, sampler, seed, progress, fixed)
        with _timed(seconds, "decode"):
            played = as_stereo(self.codec.decode(codes))
            played = Audio(played.samples[:, : voice.length], SAMPLE_RATE)
            played_gain_db = min(-gain_db, self.run.loudness.peak - peak_dbfs(played))
            accompaniment = apply_gain(played, played_gain_db)
        return Generation(accompaniment, codes, seconds, gain_db, played_gain_db)

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


@torch.inference_mode()
def denoise(
    network: MaskPredictor,
    vocal: Codes,
    conditions: Conditions,
    config: SamplerConfig,
    seed: int,
    progress: Progress | None = None,
    fixed: NDArray[np.int64] | None = None,
) -> NDArray[np.uint16]:
    """Accompaniment codes ``[T]`` for vocal codes ``[T]``; long songs `whole`, or in windows over fixed overlaps.

    Same network, vocal, conditions, settings, seed and fixed codes: same codes.
    """
    if fixed is not None and len(fixed) != len(vocal):
        raise BadInput(f"{len(fixed)} kept codes do not fit a vocal of {len(vocal)} codes: not the same voice?", "kept")
    vocal_1T = torch.from_numpy(vocal.astype(np.int64))[None].to(conditions.vectors_PW.device)
    frames = vocal_1T.shape[1]
    whole = config.long == "whole"
    windows = ((0, frames),) if whole else plan_windows(frames, config.window_tokens, config.overlap_tokens)
    codes_1T = torch.full_like(vocal_1T, FREE) if fixed is None else torch.from_numpy(fixed)[None].to(vocal_1T)
    for index, (start, stop) in enumerate(windows):
        predict = predictor(network, vocal_1T[:, start:stop], conditions, config)
        fixed_1T = codes_1T[:, start:stop]
        window_seed = seed if index == 0 else generator(seed, "window", index).initial_seed()
        tell = _shifted(progress, index * config.steps, len(windows) * config.steps)
        valid_1T = torch.ones_like(fixed_1T, dtype=torch.bool)
        codes_1T[:, start:stop] = sample(predict, valid_1T, config, [window_seed], fixed_1T, tell)
    return codes_1T[0].cpu().numpy().astype(np.uint16)


def predictor(network: MaskPredictor, vocal_1T: Tensor, conditions: Conditions, config: SamplerConfig) -> Predict:
    """What the sampler asks for logits: one forward pass, its rows the guidance variants of the one song."""
    dropped_GP = guidance_rows(conditions.missing_P, config)
    G = len(dropped_GP)
    vocal_GT = vocal_1T.expand(G, -1)
    prefix_GPW = conditions.vectors_PW.expand(G, -1, -1)

    def predict(accompaniment_1T: Tensor, masked_1T: Tensor) -> Tensor:
        hidden_GTD = network.hidden(vocal_GT, accompaniment_1T.expand(G, -1), prefix_GPW, None, dropped_GP)
        logits_GMV = network.logits(hidden_GTD[:, masked_1T[0]])
        return guide(logits_GMV[0], logits_GMV[1] if G == 3 else None, logits_GMV[-1], config)

    return predict


def guidance_rows(missing_P: Tensor, config: SamplerConfig) -> Tensor:
    """Which slots each row of the forward pass drops, bool ``[G, P]``: all given; the text alone; nothing.

    Only the rows that `sampling.guide` needs at these scales: 1 without guidance, 2 where both scales are equal.
    """
    everything = torch.ones_like(missing_P)
    text_slot = 0 if config.prefix_order == "text_reference" else 1
    text_alone = everything.clone()
    text_alone[text_slot] = missing_P[text_slot]
    if config.guidance_text != config.guidance_reference:
        return torch.stack([missing_P, text_alone, everything])
    return missing_P[None] if config.guidance_text == 1 else torch.stack([missing_P, everything])


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)


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
