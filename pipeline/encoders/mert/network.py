"""MERT-v1-95M: HuBERT's network on music at 24 kHz, and the two ways in which CLaMP3 users take vectors from it.

Conventions: audio is mono float32 ``[samples]``; a vector is the mean over the 13 hidden states (the one before the
first layer included) and over time. The network is transformers' `HubertModel`; its sizes are those of the published
configuration, its answers are the same whatever else is in a batch. In float32: bfloat16 ends 22 dB below what tells
the windows of several sounds apart (random weights, tests/pipeline/test_precision_published.py).
"""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import HubertConfig, HubertModel

SAMPLE_RATE = 24_000  # Hz
WIDTH = 768
WINDOW = 5 * SAMPLE_RATE  # samples, not overlapping; CLaMP3's extract_mert.py
LEAST = SAMPLE_RATE  # samples: a shorter last window is dropped; the same place
RELEASED_CHUNK = 60 * SAMPLE_RATE  # samples at a time in LaDA-Band's released code
NORM_EPSILON = 1e-7  # Wav2Vec2FeatureExtractor, which normalises the whole recording
BATCH = 8  # windows a forward: some 300 MB of activations at true size; ours


def config(**changes: Any) -> HubertConfig:
    """The published sizes (m-a-p/MERT-v1-95M), or some of them changed for a test."""
    sizes: dict[str, Any] = {"conv_kernel": (10, 3, 3, 3, 3, 2, 2), "layer_norm_eps": 1e-5}
    return HubertConfig(**(sizes | changes))


def build(shape: HubertConfig | None = None) -> HubertModel:
    """The network with random weights, ready to be loaded; dropout off."""
    network = HubertModel(shape or config())
    network.train(False)
    return network


def window_vectors(network: HubertModel, samples: Tensor) -> Tensor:
    """``[N, width]`` of the windows of 5 s of a recording at 24 kHz (CLaMP3's recipe); N = 0 below one second."""
    parts = windows(samples)
    whole = [part for part in parts if len(part) == WINDOW]
    batches = [torch.stack(whole[i : i + BATCH]) for i in range(0, len(whole), BATCH)]
    batches += [part[None] for part in parts[len(whole) :]]
    vectors = [mean_state(network, batch) for batch in batches]
    return torch.cat(vectors) if vectors else samples.new_zeros(0, network.config.hidden_size)


def windows(samples: Tensor) -> list[Tensor]:
    """The recording, brought to mean 0 and variance 1 as a whole, in windows of 5 s; the last one may be shorter."""
    parts = list(torch.split(normalised(samples), WINDOW))
    return parts[:-1] if len(parts[-1]) < LEAST else parts


def released_vector(network: HubertModel, samples: Tensor) -> Tensor:
    """``[width]`` as LaDA-Band's released code takes it: samples of any rate as if they were 24 kHz, in long chunks.

    Samples are rounded to bfloat16, as its mixed precision does. A last chunk too short for the network is left out.
    """
    rounded = normalised(samples.to(torch.bfloat16).to(samples.dtype))
    chunks = [chunk for chunk in torch.split(rounded, RELEASED_CHUNK) if frames(network, len(chunk)) > 0]
    if not chunks:
        raise ValueError(f"{len(samples)} samples are too few for one frame of MERT")
    states = [_states(network, chunk[None]).mean(0)[0] for chunk in chunks]  # [T, width] each
    return torch.cat(states).mean(0)


def mean_state(network: HubertModel, waves: Tensor) -> Tensor:
    """``[B, samples]`` -> ``[B, width]``"""
    return _states(network, waves).mean(dim=(0, 2))


def normalised(samples: Tensor) -> Tensor:
    """Mean 0, variance 1 (over all samples, not one less)."""
    variance = samples.var(correction=0)
    return (samples - samples.mean()) / torch.sqrt(variance + NORM_EPSILON)


def frames(network: HubertModel, samples: int) -> int:
    """How many hidden states so many samples give; 0 or less where they are too few."""
    for kernel, stride in zip(network.config.conv_kernel, network.config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def _states(network: HubertModel, waves: Tensor) -> Tensor:
    """``[1 + layers, B, T, width]``, in the network's precision whatever the samples' is."""
    with torch.inference_mode():
        heard = network(waves.to(network.dtype), output_hidden_states=True)
        return torch.stack(cast(tuple[Tensor, ...], heard.hidden_states))
