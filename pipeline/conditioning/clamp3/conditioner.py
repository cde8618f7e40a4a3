"""CLaMP3 as the source of prefix vectors: text and reference audio in one space of 768 numbers (paper 4.1).

Conventions: vectors are float32 ``[768]``, not of norm 1. A text's lines that are empty or said before are dropped, the
rest is joined by the separator, as the released code does. Windows and texts of several songs fill batches of one
shape: windows are of one length, texts are padded to 128 tokens and masked, alone too. In float32: bfloat16 leaves
vectors at a cosine of 0.9999 and more, but with random weights, MERT's included, it moves them by more than what tells
sounds apart (3.5 dB more, tests/pipeline/test_precision_published.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import HubertModel

from pipeline.assets import store
from pipeline.audio import resample
from pipeline.batching import in_batches
from pipeline.conditioning.clamp3 import weights
from pipeline.conditioning.clamp3.network import PAD_TOKEN, WIDTH, Clamp3, Tower, marked, merged, segments
from pipeline.conditioning.conditioner import CLAMP3_ASSETS, ConditionerSpec, ConditioningConfig, Vectors, needs
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
        # Windows of MERT, and segments of both towers. On a CPU a batch gains nothing.
        self.at_once = needs(config).batch_size(mert.WINDOW / mert.SAMPLE_RATE) if config.device == "cuda" else 1
        for part in (network, ears):
            nn.Module.to(part, config.device)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        name = "clamp3" if config.clamp3_recipe == "official" else "clamp3-released-code"
        self.spec = ConditionerSpec(name, weights_sha256, licence, WIDTH, config.reference_seconds, joint_space=True)

    def text(self, texts: Sequence[str]) -> Vectors:
        """``[N, 768]``; the empty text has a vector too: that of both markers."""
        return self.text_batch(texts)

    @torch.inference_mode()
    def text_batch(self, texts: Sequence[str]) -> Vectors:
        """The same. Texts in a batch don't change each other's vectors: all segments are padded to one length."""
        ids = [torch.tensor(self.tokenizer.encode(cleaned(text)).ids, device=self.config.device) for text in texts]
        return self._through(ids, self.network.text_tower, PAD_TOKEN)

    def audio(self, audio: Audio) -> Vectors:
        """``[768]`` of a stretch of audio; `BadInput` below one second, the least that MERT's windows take."""
        vector: Vectors = self.audio_batch([audio])[0]
        return vector

    @torch.inference_mode()
    def audio_batch(self, pieces: Iterable[Audio]) -> Vectors:
        """``[N, 768]`` of several stretches, whose windows fill MERT's batches together. Asks for one at a time."""
        if self.config.clamp3_recipe == "official":
            return self._through([marked(vectors) for vectors in self._heard(pieces)], self.network.audio_tower, 0)
        vectors = [self._released(piece) for piece in pieces]
        told = in_batches(vectors, self.at_once, self._of_ones, "CLaMP3", filled=True)
        return _rows(told)

    def _heard(self, pieces: Iterable[Audio]) -> list[Tensor]:
        """MERT's vectors ``[N, 768]`` of each stretch. Whole windows go together, and so do shorter last ones of one
        length."""
        counts: list[int] = []
        shorter: dict[int, Tensor] = {}  # by the stretch's place

        def whole() -> Iterator[Tensor]:
            for place, piece in enumerate(pieces):
                parts = mert.windows(self._samples(piece, mert.SAMPLE_RATE))
                if parts and len(parts[-1]) < mert.WINDOW:
                    shorter[place] = parts.pop()
                counts.append(len(parts))
                yield from parts

        answers = iter(in_batches(whole(), self.at_once, self._states, "MERT", filled=True))
        rows = [[next(answers) for _ in range(count)] for count in counts]
        for place, answer in self._of_shorter(shorter):
            rows[place].append(answer)
        empty = torch.zeros(0, self.ears.config.hidden_size, device=self.config.device)
        return [torch.stack(row) if row else empty for row in rows]

    def _of_shorter(self, windows: Mapping[int, Tensor]) -> Iterator[tuple[int, Tensor]]:
        for length in dict.fromkeys(map(len, windows.values())):
            places = [place for place, window in windows.items() if len(window) == length]
            alike = [windows[place] for place in places]
            yield from zip(places, in_batches(alike, self.at_once, self._states, "MERT", filled=True), strict=True)

    def _states(self, windows: Sequence[Tensor]) -> list[Tensor]:
        return list(mert.mean_state(self.ears, torch.stack(list(windows))))

    def _released(self, piece: Audio) -> Tensor:
        """``[768]`` of the samples at 48 kHz, taken for 24 kHz. One at a time: 20.48 s are eight windows of MERT."""
        return mert.released_vector(self.ears, self._samples(piece, 2 * mert.SAMPLE_RATE))

    def _of_ones(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """Each vector as a sequence of its own, without markers."""
        batch = torch.stack(list(vectors))[:, None]
        return list(self.network.audio_tower(batch, batch.new_ones(batch.shape[:2])))

    def _through(self, sequences: Sequence[Tensor], tower: Tower, pad: int) -> Vectors:
        """``[N, 768]`` of sequences of any lengths, whose segments fill the batches together."""
        cut = [segments(sequence, pad) for sequence in sequences]

        def work(batch: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
            return list(tower(*(torch.stack(parts) for parts in zip(*batch, strict=True))))

        answers = iter(in_batches(chain.from_iterable(cut), self.at_once, work, "CLaMP3", filled=True))
        each = [torch.stack([next(answers) for _ in parts]) for parts in cut]
        return _rows([merged(rows, len(sequence)) for rows, sequence in zip(each, sequences, strict=True)])

    def _samples(self, audio: Audio, rate: int) -> Tensor:
        """One channel at that rate."""
        if audio.length < audio.sample_rate:
            raise BadInput(
                f"{audio.length / audio.sample_rate:.2f} s of reference audio; CLaMP3 needs 1 s at least", "too_short"
            )
        mono = resample(audio.mono(), rate)
        return torch.from_numpy(np.ascontiguousarray(mono.samples[0])).to(self.config.device)


def _rows(vectors: Sequence[Tensor]) -> Vectors:
    return torch.stack(list(vectors)).float().cpu().numpy() if vectors else np.zeros((0, WIDTH), np.float32)


def cleaned(text: str) -> str:
    """The text's lines without empty and repeated ones, joined by the separator."""
    return SEPARATOR.join(dict.fromkeys(line for line in text.split("\n") if line))
