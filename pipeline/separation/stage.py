"""Separation: a mixture becomes its vocal and its accompaniment.

Conventions: stems are stereo, 48 kHz, of exactly the length of the mixture at 48 kHz; the accompaniment is the mixture
minus the vocal, so that the two add up to the mixture again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from pipeline.assets.needs import Extra, Needs, Program
from pipeline.audio import as_stereo, resample
from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio, Seconds

VERSION = 2  # part of the stage's key: bump it when the answer of a backend changes
SAMPLE_RATE = 48_000  # Hz, of both stems


class SeparationConfig(Config):
    backend: Literal["spleeter", "demucs", "bsrnn", "roformer"] = "spleeter"
    device: Literal["cpu", "cuda"] = "cpu"
    refine: bool = True  # spleeter: correct its mask with our own small network; `backline bench stages` says what for
    demucs_model: str = "htdemucs"  # Demucs' default; htdemucs_ft is four times as slow and 0.2 dB better (its README)
    demucs_repo: str = ""  # folder with weights of your own, which are pickles: trust them; empty = the pulled asset
    demucs_overlap: float = 0.25  # part of a segment; Demucs' default
    # of BSRNN's network: in bfloat16 its masks end 44 dB from float32's (random weights, test_precision in tests/)
    bsrnn_precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True, slots=True)
class Stems:
    vocal: Audio  # stereo, 48 kHz
    accompaniment: Audio  # stereo, 48 kHz, the same length


class Separator(Protocol):
    name: str
    config: SeparationConfig
    backend: str
    weights_sha256: str
    licence: str

    def __call__(self, mixture: Audio) -> Stems:
        """Split a mono or stereo mixture of any rate. Same audio, same stems."""


@runtime_checkable
class BatchSeparator(Protocol):
    """One whose batches the segments of several songs fill together."""

    def batch(self, mixtures: Sequence[Audio]) -> list[Stems]:
        """The stems of each as of it alone, bit for bit on the same machine."""


def separate(separator: Separator, mixtures: Sequence[Audio]) -> list[Stems]:
    """Split several mixtures, at once where the separator can."""
    if isinstance(separator, BatchSeparator):
        return separator.batch(mixtures)
    return [separator(mixture) for mixture in mixtures]


BACKENDS = {
    "spleeter": "pipeline.separation.spleeter:build",
    "demucs": "pipeline.separation.demucs:build",
    "bsrnn": "pipeline.separation.bsrnn.backend:build",
    "roformer": "pipeline.separation.roformer:build",
}
AUDIO_SEPARATOR = Extra("audio_separator", "pip install --no-deps --requirement constraints-no-deps.txt", "MIT")
FFMPEG = Program("ffmpeg", "apt-get install ffmpeg")  # audio-separator calls it before anything else
# GB of GPU memory, of one worker with a batch at work. Demucs: its README; RoFormer, BSRNN: computed, not measured;
# Spleeter: two networks of 10 MB in patches of 12 s.
GPU_MEMORY = {"spleeter": 2.0, "demucs": 7.0, "bsrnn": 8.0, "roformer": 8.0}
# s of audio in one batch: four segments, of 3 s (BSRNN) and of 7.8 s (Demucs). Ours, not measured on a GPU.
AT_ONCE = {"bsrnn": 12.0, "demucs": 32.0}
# s of songs that a worker separates at once. Ours: one song fills its batches but for the last one, and their stems
# wait for each other in memory, 0.8 MB a second. Spleeter and RoFormer go song by song: the former's answers are kept
# as they are, the latter's package takes one file at a time.
SONGS_AT_ONCE = 600.0


def needs(config: SeparationConfig) -> Needs:
    """What a worker of the chosen backend needs."""
    memory = GPU_MEMORY[config.backend]
    if config.backend in AT_ONCE:
        assets = () if config.backend == "demucs" and config.demucs_repo else (_asset(config),)
        at_once = AT_ONCE[config.backend]
        return Needs(assets, gpu_memory_gb=memory, batch_seconds=at_once, songs_seconds=SONGS_AT_ONCE)
    if config.backend == "roformer":
        return Needs(("roformer",), (AUDIO_SEPARATOR,), (FFMPEG,), cuda=True, gpu_memory_gb=memory)
    return Needs(gpu_memory_gb=memory)


def _asset(config: SeparationConfig) -> str:
    return f"demucs-{config.demucs_model}" if config.backend == "demucs" else config.backend


def at_once(config: SeparationConfig, segment_seconds: Seconds) -> int:
    """How many segments of that length make a batch; one on a CPU, where a batch gains nothing."""
    return needs(config).batch_size(segment_seconds) if config.device == "cuda" else 1


def build(config: SeparationConfig) -> Separator:
    """Load the backend named in the config; `BackendUnavailable` if its package or weights are missing."""
    separator: Separator = load_backend("separation", BACKENDS, config)
    return separator


def stems_of(mixture: Audio, vocal: Audio) -> Stems:
    """Both stems from a mixture and an estimate of its vocal, stereo or mono, at any rates."""
    whole = resample(as_stereo(mixture), SAMPLE_RATE)
    estimate = resample(as_stereo(vocal), SAMPLE_RATE).samples
    samples = np.zeros_like(whole.samples)
    kept = min(whole.length, estimate.shape[1])
    samples[:, :kept] = estimate[:, :kept]
    return Stems(Audio(samples, SAMPLE_RATE), Audio(whole.samples - samples, SAMPLE_RATE))
