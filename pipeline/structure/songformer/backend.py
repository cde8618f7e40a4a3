"""SongFormer as a structure backend: sections by its eight labels; beats, bars, tempo and key stay with `tcn`.

Conventions: as in `pipeline.structure.stage`. SongFormer's own end of a song (frames by a rounded rate) gives way to
the song's. In float32: in bfloat16 0.7 % of the frames had another label (random weights,
tests/pipeline/test_precision.py).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from pipeline.assets import store
from pipeline.audio import resample
from pipeline.encoders import musicfm
from pipeline.encoders.muq import weights as muq
from pipeline.encoders.muq.network import FRAME_RATE, MuQ
from pipeline.encoders.muq.together import STEP, Ears, Size, alone, heard
from pipeline.errors import BadInput
from pipeline.structure import tcn
from pipeline.structure.songformer import frames, weights
from pipeline.structure.songformer.network import SongFormer
from pipeline.structure.songformer.segments import Mark, marks, ruled
from pipeline.structure.stage import SONGFORMER_ASSETS, Extractor, Structure, StructureConfig, needs
from pipeline.types import Audio, Label, Seconds, Section, Span

LAYER = 10  # hidden state of both listeners; the released inference


def build(config: StructureConfig) -> "SongFormerStructure":
    """With the pulled weights; `BackendUnavailable` names what is missing and the command that brings it."""
    held = [store.held(name) for name in SONGFORMER_ASSETS]
    former, first, second = held
    ears = musicfm.load(first.tensors("pretrained_msd.pt"), first.path("msd_stats.json"))
    network = weights.load(former.tensors("SongFormer.safetensors"))
    rest = tcn.build(config)
    sha256, licence = store.combined(held)
    return SongFormerStructure(
        config, network, ears, muq.load(second.tensors("model.safetensors")), rest, sha256, licence
    )


class SongFormerStructure:
    name, backend = "structure", "songformer"

    def __init__(
        self,
        config: StructureConfig,
        network: SongFormer,
        first: musicfm.MusicFM,
        second: MuQ,
        rest: Extractor,
        weights_sha256: str,
        licence: str,
    ) -> None:
        """`first` is MusicFM, `second` MuQ; `rest` finds all but the sections."""
        self.config, self.rest = config, rest
        self.network, self.first, self.second = network, first, second
        for part in (network, first, second):
            part.to(config.device)
        self.size: Size = needs(config).batch_size if config.device == "cuda" else alone
        self.weights_sha256 = weights_sha256
        self.licence = f"{licence}; beats and key {rest.licence}"

    def __call__(self, audio: Audio, vocal_active: Sequence[Span] | None = None) -> Structure:
        """Analyse one song; `BadInput` (too_short) under two seconds. Same audio, same answer."""
        return self.batch([(audio, vocal_active)])[0]

    def batch(self, songs: Sequence[tuple[Audio, Sequence[Span] | None]]) -> list[Structure]:
        """The same of several songs; `BadInput` where one of them is too short, before any is heard."""
        for audio, _ in songs:
            if audio.duration < 2:
                raise BadInput(f"structure needs 2 s of audio, got {audio.duration:.2f} s", reason="too_short")
        ears = (self._listener(self.first, self.first.network), self._listener(self.second, self.second))
        told = frames.logits(self.network, *ears, [self._samples(audio) for audio, _ in songs])
        return [
            replace(self.rest(audio, active), sections=sections(ruled(marks(*found)), audio.duration))
            for (audio, active), found in zip(songs, told, strict=True)
        ]

    def _samples(self, audio: Audio) -> Tensor:
        samples = resample(audio.mono(), frames.RATE).samples[0]
        return torch.from_numpy(np.ascontiguousarray(samples)).to(self.config.device)

    def _listener(self, ears: Ears, network: MuQ) -> frames.Listener:
        def listen(sounds: Sequence[Tensor], pieces: bool) -> list[Tensor]:
            step = frames.PIECE * FRAME_RATE if pieces else STEP  # what is left of a song goes with the whole pieces
            return heard(sounds, ears, network, LAYER, self.size, "SongFormer's listeners", step)

        return listen


def sections(told: Sequence[Mark], duration: Seconds) -> tuple[Section, ...]:
    """Marks -> sections that tile ``[0, duration)``; what begins beyond the song's end is dropped."""
    inside = [mark for mark in told[:-1] if mark[0] < duration]
    ends = [start for start, _ in inside[1:]] + [duration]
    return tuple(Section(start, end, cast(Label, label)) for (start, label), end in zip(inside, ends, strict=True))
