"""What the codec learns from: audio files -> log-mels at several pitches and levels, and draws from them.

Conventions: clips are float16 log-mels ``[M, 100]``; a file is a solo voice when its name says so; every draw comes
from the seed and the file's name and size, so that the same files give the same corpus.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
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
    voice_copies: int = Field(default=3, ge=0)  # of each voice beside the original; ours
    music_copies: int = Field(default=1, ge=0)  # the same of other files; ours
    # semitones either way; drawn, not in steps of one: whoever learns from tuned songs alone can't sing between the
    # keys, and real singers do
    voice_shift: float = Field(default=4.5, ge=0)
    music_shift: float = Field(default=3.0, ge=0)
    quietest_copy: float = -9.0  # dB against the loudness rule; copies draw their gain from here ...
    loudest_copy: float = 2.0  # ... to here; a peak of 0.9 lies above the rule
    max_seconds: float = 120.0  # s of each file, its middle; ours: more songs beat longer songs
    voice_share: float = 0.4  # of the codebook's sample and of every batch; >= 0.2 needed, 0.45
    # measured as 0.02 nats better on unseen voices than 0.3


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

    def voices_of(self, count: int, voice_share: float) -> int:
        """How many of the `count` crops of a draw, the first of them, are solo voices."""
        return self._split(count, voice_share, [any(c.voice is kind for c in self.clips) for kind in (True, False)])[0]

    @staticmethod
    def _split(count: int, voice_share: float, has: Sequence[bool]) -> tuple[int, int]:
        if not any(has):
            raise ValueError("no clip is as long as a crop: give longer audio")
        voices = round(count * voice_share) if all(has) else count * has[0]
        return voices, count - voices


def read(files: Sequence[Path], config: CorpusConfig, seed: int, progress: Progress, cache: Path) -> Corpus:
    """Decode, normalise and copy every file; files that can't be decoded are skipped and named.

    What was read is kept in the folder `cache`, so that a run that was stopped need not read it again.
    """
    clips: list[Clip] = []
    skipped: list[str] = []
    seconds = 0.0
    for index, path in enumerate(files):
        key = _key(path, config, seed)
        kept = cache / f"{key:016x}.safetensors"
        if not kept.exists():
            try:
                middle = _middle(decode(str(path)), config.max_seconds)
                _keep(kept, middle, _is_voice(path, config), config, key)
            except BadInput as error:
                logger.warning("skipped: %s", error)
                skipped.append(str(error))
                continue
        found = load_file(kept)
        seconds += float(found.pop("seconds"))
        clips += [Clip(found[name], _is_voice(path, config)) for name in sorted(found)]
        progress("reading", (index + 1) / len(files))
    return Corpus(tuple(clips), seconds, tuple(skipped))


def _key(path: Path, config: CorpusConfig, seed: int) -> int:
    """Names and seeds what is made of a file: other files of the run don't change it."""
    settings = config.model_dump_json(exclude={"voice_share"})  # counts where clips are drawn, not where they are read
    name = f"{seed} {path.parent.name}/{path.name} {path.stat().st_size} {settings}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def _is_voice(path: Path, config: CorpusConfig) -> bool:
    return path.name.startswith(config.voice_name)


def _keep(path: Path, audio: Audio, voice: bool, config: CorpusConfig, seed: int) -> None:
    copies = _copies(audio, voice, config, np.random.default_rng(seed))
    temporary = path.with_suffix(".tmp")
    named = {f"{number:03d}": copy for number, copy in enumerate(copies)}
    save_file(named | {"seconds": torch.tensor(audio.duration, dtype=torch.float64)}, temporary)
    temporary.replace(path)


def _copies(audio: Audio, voice: bool, config: CorpusConfig, rng: np.random.Generator) -> list[Tensor]:
    """The file under the loudness rule, then its copies: resampling shifts pitch and tempo together."""
    mono = apply_gain(audio, loudness_gain_db(audio)).samples.mean(axis=0)
    number, widest = (config.voice_copies, config.voice_shift) if voice else (config.music_copies, config.music_shift)
    copies = []
    for copy in range(number + 1):
        semitones = rng.uniform(-widest, widest) if copy else 0.0
        gain = rng.uniform(config.quietest_copy, config.loudest_copy) if copy else 0.0
        rate = audio.sample_rate * 2 ** (semitones / 12)
        samples = soxr.resample(mono, rate, SAMPLE_RATE, quality="MQ") * np.float32(10 ** (gain / 20))
        copies.append(log_mel(torch.from_numpy(samples), len(samples) // SAMPLES_PER_CODE).half())
    return copies


def _middle(audio: Audio, seconds: float) -> Audio:
    length = min(audio.length, to_samples(seconds, audio.sample_rate))
    start = (audio.length - length) // 2
    return Audio(audio.samples[:, start : start + length], audio.sample_rate)


def code_rows(crops: Tensor) -> Tensor:
    """Log-mels ``[..., 4 N, 100]`` -> the rows of their codes ``[N', 400]``."""
    return crops.reshape(-1, FRAMES_PER_CODE * BANDS)
