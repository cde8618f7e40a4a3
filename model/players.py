"""What a network speaks, codes or latents: how it hears a vocal, plays a song, and how that sounds.

Conventions: audio is 48 kHz and under the loudness rule; `T` frames, `L` numbers of a latent.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from model.config import SamplerConfig
from model.denoising import Frames, Progress, Song, denoise_many, guidance_rows
from model.flow import FlowPredictor, play
from model.network import MaskPredictor
from pipeline.codec.codec import Codec, Codes, ContinuousCodec, continuous
from pipeline.errors import BadInput
from pipeline.types import Audio


class Player(Protocol):
    def heard(self, audio: Audio) -> Frames:
        """A vocal as the network takes it: codes ``[T]`` or latents ``[T, L]``."""

    def drawn(self, songs: Sequence[Song], config: SamplerConfig, progress: Progress | None) -> list[Frames]:
        """An accompaniment of each; `BadInput` for kept codes that don't fit, or that latents can't keep."""

    def sound(self, frames: Frames) -> Audio:
        """Stereo audio of ``T * 1920`` samples."""

    def codes(self, frames: Frames) -> Codes:
        """The codes, by which a section can be played anew; none of latents."""


class CodePlayer:
    def __init__(self, network: MaskPredictor, codec: Codec) -> None:
        self.network, self.codec = network, codec

    def heard(self, audio: Audio) -> Frames:
        codes: Codes = self.codec.encode(audio)[0]
        return codes

    def drawn(self, songs: Sequence[Song], config: SamplerConfig, progress: Progress | None) -> list[Frames]:
        return list(denoise_many(self.network, songs, config, progress))

    def sound(self, frames: Frames) -> Audio:
        return self.codec.decode(self.codes(frames))

    def codes(self, frames: Frames) -> Codes:
        return frames.astype(np.uint16)


class LatentPlayer:
    """Songs one by one: latents are integrated in as many passes for one as for many."""

    def __init__(self, network: FlowPredictor, codec: ContinuousCodec) -> None:
        self.network, self.codec = network, codec

    def heard(self, audio: Audio) -> Frames:
        return self.codec.latents(audio)

    def drawn(self, songs: Sequence[Song], config: SamplerConfig, progress: Progress | None) -> list[Frames]:
        return [self._one(song, config, progress) for song in songs]

    @torch.inference_mode()
    def _one(self, song: Song, config: SamplerConfig, progress: Progress | None) -> Frames:
        if song.fixed is not None:
            raise BadInput("a model of continuous latents keeps no codes: play the whole song", "kept")
        dropped_GP = guidance_rows(song.conditions.missing_P, config)
        prefix_GPW = song.conditions.vectors_PW.expand(len(dropped_GP), -1, -1)
        vocal_TL = torch.from_numpy(song.vocal.astype(np.float32)).to(dropped_GP.device)
        latents_TL = play(self.network, vocal_TL, prefix_GPW, dropped_GP, config, song.seed, progress)
        found: Frames = latents_TL.float().cpu().numpy()
        return found

    def sound(self, frames: Frames) -> Audio:
        return self.codec.decode_latents(frames.astype(np.float32))

    def codes(self, frames: Frames) -> Codes:
        return np.zeros(0, np.uint16)


def player_of(network: MaskPredictor | FlowPredictor, codec: Codec) -> Player:
    """`BackendUnavailable` for a network of latents and a codec without."""
    if isinstance(network, FlowPredictor):
        return LatentPlayer(network, continuous(codec))
    return CodePlayer(network, codec)
