"""Separation: a mixture becomes its vocal and its accompaniment.

Conventions: stems are stereo, 48 kHz, of exactly the length of the mixture at 48 kHz; the accompaniment is the mixture
minus the vocal, so that the two add up to the mixture again.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from pipeline.assets.needs import Extra, Needs
from pipeline.audio import as_stereo, resample
from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio

VERSION = 2  # part of the stage's key: bump it when the answer of a backend changes
SAMPLE_RATE = 48_000  # Hz, of both stems


class SeparationConfig(Config):
    backend: Literal["spleeter", "demucs", "bsrnn", "roformer"] = "spleeter"
    device: Literal["cpu", "cuda"] = "cpu"
    refine: bool = True  # spleeter: correct its mask with our own small network; `backline bench stages` says what for
    demucs_model: str = "htdemucs"  # Demucs' default; htdemucs_ft is four times as slow and 0.2 dB better (its README)
    demucs_repo: str = ""  # folder with weights of your own, which are pickles: trust them; empty = the pulled asset
    demucs_overlap: float = 0.25  # part of a segment; Demucs' default


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


BACKENDS = {
    "spleeter": "pipeline.separation.spleeter:build",
    "demucs": "pipeline.separation.demucs:build",
    "bsrnn": "pipeline.separation.bsrnn.backend:build",
    "roformer": "pipeline.separation.roformer:build",
}
AUDIO_SEPARATOR = Extra("audio_separator", 'pip install "audio-separator>=0.47,<0.48"', "MIT")
# GB of GPU memory, of one worker with a song at work. Demucs: its README; RoFormer, BSRNN: computed, not measured;
# Spleeter: two networks of 10 MB in patches of 12 s.
GPU_MEMORY = {"spleeter": 2.0, "demucs": 7.0, "bsrnn": 8.0, "roformer": 8.0}


def needs(config: SeparationConfig) -> Needs:
    """What a worker of the chosen backend needs."""
    memory = GPU_MEMORY[config.backend]
    if config.backend == "demucs":
        assets = () if config.demucs_repo else (f"demucs-{config.demucs_model}",)
        return Needs(assets, gpu_memory_gb=memory)
    if config.backend == "bsrnn":
        return Needs(("bsrnn",), gpu_memory_gb=memory)
    if config.backend == "roformer":
        return Needs(("roformer",), (AUDIO_SEPARATOR,), cuda=True, gpu_memory_gb=memory)
    return Needs(gpu_memory_gb=memory)


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
