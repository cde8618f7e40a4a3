"""Quality as SongEval judges it: five scores of the music, from MuQ's hidden states of the whole song.

Conventions: heard as one channel at 24 kHz; scores by SongEval's own names, not rounded; their mean is the plain one.
On a GPU short songs share batches (`pipeline.encoders.muq.together`), with the scores that each has alone. In float32:
bfloat16 moved a score by 0.018 (random weights, tests/pipeline/test_precision.py), and a gate of 3.5 is passed or
missed by less.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.assets.store import combined, held
from pipeline.audio import resample
from pipeline.encoders.muq.mel import LEAST, SAMPLE_RATE
from pipeline.encoders.muq.network import MuQ
from pipeline.encoders.muq.together import Size, alone, together
from pipeline.encoders.muq.weights import load as load_muq
from pipeline.errors import BadInput
from pipeline.quality.songeval.network import LAYER, NAMES, SongEval
from pipeline.quality.songeval.weights import load as load_head
from pipeline.quality.stage import SONGEVAL_ASSETS, Quality, QualityConfig, needs
from pipeline.types import Audio


class SongEvalRater:
    name, backend = "quality", "songeval"

    def __init__(
        self, muq: MuQ, head: SongEval, config: QualityConfig, weights_sha256: str = "", licence: str = ""
    ) -> None:
        self.config, self.weights_sha256, self.licence = config, weights_sha256, licence
        self.muq, self.head = muq.to(config.device), head.to(config.device)
        self.size: Size = needs(config).batch_size if config.device == "cuda" else alone

    def __call__(self, audio: Audio) -> Quality:
        """Five scores of audio of any rate and channel count; `BadInput` below 43 ms. Same audio, same scores."""
        return self.batch([audio])[0]

    @torch.inference_mode()
    def batch(self, songs: Sequence[Audio]) -> list[Quality]:
        """The same of several songs; `BadInput` where one of them is too short, before any is heard."""
        cut = [self._parts(audio) for audio in songs]
        told = together([part for parts in cut for part in parts], self.muq, self._judged, self.size, "SongEval")
        scores = iter(told)
        return [rated(parts, torch.stack([next(scores) for _ in parts])) for parts in cut]

    def _parts(self, audio: Audio) -> list[Tensor]:
        samples = torch.from_numpy(resample(audio.mono(), SAMPLE_RATE).samples[0])
        if len(samples) < LEAST:
            raise BadInput(f"SongEval needs {LEAST} samples at {SAMPLE_RATE} Hz, got {len(samples)}", "too_short")
        return [part.to(self.config.device) for part in pieces(samples, self.config.songeval.whole_seconds)]

    def _judged(self, first: Tensor, real: Tensor | None) -> list[Tensor]:
        return list(self.head(self.muq.from_front(first, LAYER, real)[LAYER], real))


def pieces(samples: Tensor, whole_seconds: float) -> list[Tensor]:
    """``[samples]`` whole, or in as few equal parts as keep each at `whole_seconds` at most."""
    most = round(whole_seconds * SAMPLE_RATE)
    return list(torch.tensor_split(samples, -(-len(samples) // most)))


def rated(parts: Sequence[Tensor], scores: Tensor) -> Quality:
    """One song's parts ``[samples]`` and their scores ``[parts, 5]`` -> the song's: the mean by length."""
    lengths = torch.tensor([float(len(part)) for part in parts])
    means = (lengths[:, None] * scores.float().cpu()).sum(0) / lengths.sum()
    values = [float(value) for value in means]
    return Quality(dict(zip(NAMES, values, strict=True)), sum(values) / len(values))


def build(config: QualityConfig) -> SongEvalRater:
    """The rater of pulled weights; `BackendUnavailable` says what is missing and the command that brings it."""
    muq, head = (held(name) for name in SONGEVAL_ASSETS)
    return SongEvalRater(
        load_muq(muq.tensors("model.safetensors")),
        load_head(head.tensors("model.safetensors")),
        config,
        *combined((muq, head)),
    )
