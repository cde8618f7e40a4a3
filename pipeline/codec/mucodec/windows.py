"""Which samples one window of codes comes from, which codes one window of sound comes from, and how windows join.

Conventions: audio is ``[channels, samples]`` at 48 kHz; a window is 1024 codes (40.96 s). Encoding, as released: a
window takes 40.97 s of audio, of which the encoder keeps 40.96, and the next one starts where it ended, so codes fall
10 ms behind with every window; audio that ends is followed by itself. ``zero_pad``: windows start every 40.96 s, and
audio that ends is followed by silence. Decoding: windows of 1024 codes every 768, the last quarter of one faded into
the next; codes that end are followed by themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.codec.mucodec.settings import WINDOW_TOKENS

Windows = Literal["released", "zero_pad"]

SAMPLES_PER_CODE = 1920  # at 48 kHz
WINDOW = WINDOW_TOKENS * SAMPLES_PER_CODE  # samples of sound: 40.96 s
AHEAD = 480  # samples more that an encoding window takes; released code
TAKEN = WINDOW + AHEAD  # samples of an encoding window: 40.97 s
PEAK = 0.8  # louder audio is brought down to it; released code
CODE_HOP = WINDOW_TOKENS // 4 * 3  # codes between decoding windows
FADE = WINDOW // 4  # samples over which decoded windows cross: 10.24 s


def hop_of(rule: Windows) -> int:
    """Samples at 48 kHz between the starts of encoding windows."""
    return TAKEN if rule == "released" else WINDOW


def levelled(audio: Tensor) -> Tensor:
    """The audio, brought down to a peak of 0.8 if it is louder; both channels alike."""
    peak = audio.abs().max()
    return audio / (peak / PEAK) if peak > PEAK else audio


def encoding_windows(audio: Tensor, codes: int, rule: Windows) -> Tensor:
    """``[windows, channels, 1966560]``: as many windows of levelled audio as `codes` codes need."""
    count = -(-codes // WINDOW_TOKENS)
    hop = hop_of(rule)
    length = (count - 1) * hop + TAKEN
    filled = _tiled(audio, length) if rule == "released" else _padded(audio, length)
    return filled.unfold(-1, TAKEN, hop).movedim(1, 0)


@dataclass(frozen=True, slots=True)
class Phase:
    """One of F shifts of the windows over a song."""

    first_code: int  # before it, the codes are those of phase 0
    first_sample: int  # where its first window starts


def phases(count: int, rule: Windows) -> tuple[Phase, ...]:
    """Phase f starts f / F of a window later, in codes and in samples alike."""
    return tuple(Phase(f * WINDOW_TOKENS // count, f * hop_of(rule) // count) for f in range(count))


def decoding_windows(points: Tensor) -> Tensor:
    """``[width, T]`` -> ``[windows, width, 1024]``, each beginning 768 codes after the one before."""
    count = decoding_count(points.shape[-1])
    tiled = _tiled(points, (count - 1) * CODE_HOP + WINDOW_TOKENS)
    return tiled.unfold(-1, WINDOW_TOKENS, CODE_HOP).movedim(-2, 0)


def decoding_count(codes: int) -> int:
    """How many windows that many codes are decoded in."""
    return max(0, -(-(codes - WINDOW_TOKENS) // CODE_HOP)) + 1


def crossed(parts: Sequence[Tensor], fade: int) -> Tensor:
    """Stretches of sound ``[channels, samples]`` joined, each faded linearly into the next over `fade` samples."""
    whole, rising = parts[0].clone(), torch.linspace(0, 1, fade, dtype=torch.float64, device=parts[0].device)
    for part in parts[1:]:
        whole[:, -fade:] = (whole[:, -fade:] * (1 - rising) + part[:, :fade] * rising).to(whole.dtype)
        whole = torch.cat([whole, part[:, fade:]], dim=-1)
    return whole


def _tiled(x: Tensor, length: int) -> Tensor:
    """Exactly `length` along the last axis: the content again and again."""
    return x.repeat(*[1] * (x.dim() - 1), -(-length // x.shape[-1]))[..., :length]


def _padded(x: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, max(0, length - x.shape[-1])))[..., :length]
