"""CLaMP3 as the source of prefix vectors: text and reference audio in one space of 768 numbers (paper 4.1).

Conventions: vectors are float32 ``[768]``, not of norm 1. A text's lines that are empty or said before are dropped, the
rest is joined by the separator, as the released code does. In float32; bfloat16 would turn a vector by a cosine of
0.99999 (random weights of the audio tower, tests/pipeline/test_precision.py), MERT not counted.
"""

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import HubertModel

from pipeline.assets import store
from pipeline.audio import resample
from pipeline.conditioning.clamp3 import weights
from pipeline.conditioning.clamp3.network import WIDTH, Clamp3
from pipeline.conditioning.conditioner import CLAMP3_ASSETS, ConditionerSpec, ConditioningConfig, Vectors
from pipeline.encoders.mert import network as mert
from pipeline.encoders.mert import weights as mert_weights
from pipeline.errors import BadInput
from pipeline.types import Audio

SEPARATOR = "</s>"


def build(config: ConditioningConfig) -> "Clamp3Conditioner":
    """With the pulled weights; `BackendUnavailable` names what is missing and the command that brings it."""
    towers, listener, words = (store.held(name) for name in CLAMP3_ASSETS)
    sha256, licence = store.combined([towers, listener, words])
    tokenizer = Tokenizer.from_file(str(words.path("tokenizer.json")))
    network = weights.load(towers.tensors(towers.asset.files[0].path))
    ears = mert_weights.load(listener.tensors(listener.asset.files[0].path))
    return Clamp3Conditioner(config, network, ears, tokenizer, sha256, licence)


class Clamp3Conditioner:
    """Text and audio -> vectors of width 768."""

    def __init__(
        self,
        config: ConditioningConfig,
        network: Clamp3,
        ears: HubertModel,
        tokenizer: Tokenizer,
        weights_sha256: str,
        licence: str,
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.network, self.ears = network, ears
        for part in (network, ears):
            nn.Module.to(part, config.device)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        name = "clamp3" if config.clamp3_recipe == "official" else "clamp3-released-code"
        self.spec = ConditionerSpec(name, weights_sha256, licence, WIDTH, config.reference_seconds, joint_space=True)

    def text(self, texts: Sequence[str]) -> Vectors:
        """``[N, 768]``; the empty text has a vector too: that of both markers."""
        ids = [self.tokenizer.encode(cleaned(text)).ids for text in texts]
        with torch.inference_mode():
            rows = [self.network.text(torch.tensor(row, device=self.config.device)) for row in ids]
        return torch.stack(rows).float().cpu().numpy() if rows else np.zeros((0, WIDTH), np.float32)

    def audio(self, audio: Audio) -> Vectors:
        """``[768]`` of a stretch of audio; `BadInput` below one second, the least that MERT's windows take."""
        if audio.length < audio.sample_rate:
            raise BadInput(
                f"{audio.length / audio.sample_rate:.2f} s of reference audio; CLaMP3 needs 1 s at least", "too_short"
            )
        with torch.inference_mode():
            vector = self._official(audio) if self.config.clamp3_recipe == "official" else self._released(audio)
        answer: Vectors = vector.float().cpu().numpy()
        return answer

    def _official(self, audio: Audio) -> Tensor:
        heard = self._samples(resample(audio.mono(), mert.SAMPLE_RATE))
        return self.network.audio(mert.window_vectors(self.ears, heard))

    def _released(self, audio: Audio) -> Tensor:
        """The samples at 48 kHz, taken for 24 kHz."""
        heard = self._samples(resample(audio.mono(), 2 * mert.SAMPLE_RATE))
        return self.network.audio_of_one(mert.released_vector(self.ears, heard))

    def _samples(self, mono: Audio) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(mono.samples[0])).to(self.config.device)


def cleaned(text: str) -> str:
    """The text's lines without empty and repeated ones, joined by the separator."""
    return SEPARATOR.join(dict.fromkeys(line for line in text.split("\n") if line))
