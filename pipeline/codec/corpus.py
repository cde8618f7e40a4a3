"""What the codec learns from: audio files -> log-mels at several pitches and levels, and draws from them.

Conventions: clips are float16 log-mels ``[M, 100]``; a file is a solo voice when its name says so; every draw comes
from the seed, the file's place in the list and the copy's, so that the same files give the same corpus.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from pipeline.audio import apply_gain, decode, loudness_gain_db, to_samples
from pipeline.codec.mel import BANDS, FRAMES_PER_CODE, SAMPLE_RATE, SAMPLES_PER_CODE, log_mel
from pipeline.config import Config
from pipeline.errors import BadInput
from pipeline.types import Audio

logger = logging.getLogger(__name__)
Progress = Callable[[str, float], None]
"""Called with the name of the phase and the share of it that is done, 0..1."""


class CorpusConfig(Config):
    voice_name: str = "vo"  # files whose name starts so are solo voices: vocal.flac, vocadito_10.wav
    voice_shifts: tuple[float, ...] = (0.0, -4.0, -2.0, 2.0, 4.0)  # semitones; five as in notes/codec.md
    music_shifts: tuple[float, ...] = (0.0, -2.5, 2.5)  # semitones; notes/codec.md
    quietest_copy: float = -6.0  # dB below the loudness rule; shifted copies draw their gain from here to 0; ours
    max_seconds: float = 120.0  # s of each file, its middle; ours: more songs beat longer songs (notes/codec.md 2.4)
    voice_share: float = (
        0.3  # of the codebook's sample and of every batch; >= 0.2 measured as needed (notes/codec.md 3)
    )


@dataclass(frozen=True, slots=True)
class Clip:
    log_mel: Tensor  # float16 [M, 100]
    voice: bool


@dataclass(frozen=True, slots=True)
class Corpus:
    clips: tuple[Clip, ...]
    seconds: float  # of audio, without the copies
    skipped: tuple[str, ...]  # why each unusable file was left out

    def draw(self, count: int, frames: int, voice_share: float, rng: np.random.Generator) -> Tensor:
        """Crops ``[count, frames, 100]`` float32: `voice_share` of them from solo voices (where there are both kinds),
        clips in proportion to their length, starts anywhere, not on a code's edge only."""
        kinds = [
            [c.log_mel for c in self.clips if c.voice is voice and len(c.log_mel) >= frames] for voice in (True, False)
        ]
        wanted = self._split(count, voice_share, [bool(kind) for kind in kinds])
        crops = torch.empty((count, frames, BANDS))
        row = 0
        for kind, number in zip(kinds, wanted, strict=True):
            room = np.array([len(clip) - frames + 1 for clip in kind], dtype=np.float64)
            chosen = rng.choice(len(kind), number, p=room / room.sum()) if number else np.zeros(0, np.int64)
            for clip in chosen:
                start = int(rng.integers(int(room[clip])))
                crops[row] = kind[clip][start : start + frames]
                row += 1
        return crops

    @staticmethod
    def _split(count: int, voice_share: float, has: Sequence[bool]) -> tuple[int, int]:
        if not any(has):
            raise ValueError("no clip is as long as a crop: give longer audio")
        voices = round(count * voice_share) if all(has) else count * has[0]
        return voices, count - voices


def read(files: Sequence[Path], config: CorpusConfig, seed: int, progress: Progress) -> Corpus:
    """Decode, normalise and copy every file; files that can't be decoded are skipped and named."""
    clips: list[Clip] = []
    skipped: list[str] = []
    seconds = 0.0
    for index, path in enumerate(files):
        try:
            audio = _middle(decode(str(path)), config.max_seconds)
        except BadInput as error:
            logger.warning("skipped: %s", error)
            skipped.append(str(error))
            continue
        seconds += audio.duration
        voice = path.name.startswith(config.voice_name)
        rng = np.random.default_rng([seed, index])
        clips += [Clip(mel, voice) for mel in _copies(audio, voice, config, rng)]
        progress("reading", (index + 1) / len(files))
    return Corpus(tuple(clips), seconds, tuple(skipped))


def _copies(audio: Audio, voice: bool, config: CorpusConfig, rng: np.random.Generator) -> list[Tensor]:
    """The file under the loudness rule, then its copies: resampling shifts pitch and tempo together."""
    mono = apply_gain(audio, loudness_gain_db(audio)).samples.mean(axis=0)
    copies = []
    for semitones in config.voice_shifts if voice else config.music_shifts:
        gain = rng.uniform(config.quietest_copy, 0.0) if semitones else 0.0
        rate = audio.sample_rate * 2 ** (semitones / 12)
        samples = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ") * np.float32(10 ** (gain / 20))
        copies.append(log_mel(torch.from_numpy(samples), len(samples) // SAMPLES_PER_CODE).half())
    return copies


def _middle(audio: Audio, seconds: float) -> Audio:
    length = min(audio.length, to_samples(seconds, audio.sample_rate))
    start = (audio.length - length) // 2
    return Audio(audio.samples[:, start : start + length], audio.sample_rate)


def code_rows(crops: Tensor) -> Tensor:
    """Log-mels ``[..., 4 N, 100]`` -> the rows of their codes ``[N', 400]``."""
    return crops.reshape(-1, FRAMES_PER_CODE * BANDS)
