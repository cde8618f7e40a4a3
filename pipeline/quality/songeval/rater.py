"""Quality as SongEval judges it: five scores of the music, from MuQ's hidden states of the whole song.

Conventions: heard as one channel at 24 kHz; scores by SongEval's own names, not rounded; their mean is the plain one.
Songs are heard one at a time: padding would change what MuQ hears. In float32: bfloat16 moved a score by 0.018 (random
weights, tests/pipeline/test_precision.py), and a gate of 3.5 is passed or missed by less.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.assets.store import combined, held
from pipeline.audio import resample
from pipeline.batching import in_batches
from pipeline.encoders.muq.mel import LEAST, SAMPLE_RATE
from pipeline.encoders.muq.network import MuQ
from pipeline.encoders.muq.weights import load as load_muq
from pipeline.errors import BadInput
from pipeline.quality.songeval.network import LAYER, NAMES, SongEval
from pipeline.quality.songeval.weights import load as load_head
from pipeline.quality.stage import SONGEVAL_ASSETS, Quality, QualityConfig
from pipeline.types import Audio


class SongEvalRater:
    name, backend = "quality", "songeval"

    def __init__(
        self, muq: MuQ, head: SongEval, config: QualityConfig, weights_sha256: str = "", licence: str = ""
    ) -> None:
        self.config, self.weights_sha256, self.licence = config, weights_sha256, licence
        self.muq, self.head = muq.to(config.device), head.to(config.device)

    @torch.inference_mode()
    def __call__(self, audio: Audio) -> Quality:
        """Five scores of audio of any rate and channel count; `BadInput` below 43 ms. Same audio, same scores."""
        samples = torch.from_numpy(resample(audio.mono(), SAMPLE_RATE).samples)  # [1, samples]
        if samples.shape[1] < LEAST:
            raise BadInput(f"SongEval needs {LEAST} samples at {SAMPLE_RATE} Hz, got {samples.shape[1]}", "too_short")
        parts = pieces(samples, self.config.songeval.whole_seconds)
        lengths = torch.tensor([float(part.shape[1]) for part in parts])
        scores = torch.stack(in_batches(parts, 1, self._judged, "SongEval")).float().cpu()
        means = (lengths[:, None] * scores).sum(0) / lengths.sum()
        values = [float(value) for value in means]
        return Quality(dict(zip(NAMES, values, strict=True)), sum(values) / len(values))

    def _judged(self, parts: Sequence[Tensor]) -> list[Tensor]:
        return [self.head(self.muq(part.to(self.config.device), last=LAYER)[LAYER])[0] for part in parts]


def pieces(samples: Tensor, whole_seconds: float) -> list[Tensor]:
    """``[1, samples]`` whole, or in as few equal parts as keep each at `whole_seconds` at most."""
    most = round(whole_seconds * SAMPLE_RATE)
    return list(torch.tensor_split(samples, -(-samples.shape[1] // most), dim=1))


def build(config: QualityConfig) -> SongEvalRater:
    """The rater of pulled weights; `BackendUnavailable` says what is missing and the command that brings it."""
    muq, head = (held(name) for name in SONGEVAL_ASSETS)
    return SongEvalRater(
        load_muq(muq.tensors("model.safetensors")),
        load_head(head.tensors("model.safetensors")),
        config,
        *combined((muq, head)),
    )
