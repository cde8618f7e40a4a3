"""What the codec keeps of a recording: melody, harmony, beat, texture, level, and how fast it is.

Conventions: definitions of notes/codec.md section 2: both sides mono at 24 kHz, mel as in `mel`, files under the
loudness rule; reconstruction figures are means over clips from the middle of each file, codes are counted over the
whole files; NaN where a figure has nothing to be measured on.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import mir_eval
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.audio import apply_gain, decode, loudness_gain_db, resample, rms_dbfs, to_samples
from pipeline.codec.codec import CODEBOOK_SIZE, SAMPLE_RATE, Codec
from pipeline.codec.corpus import CorpusConfig
from pipeline.codec.mel import HOP, SAMPLES_PER_CODE, log_mel, to_24k
from pipeline.codec.mel import SAMPLE_RATE as MEL_RATE
from pipeline.errors import BadInput
from pipeline.types import Audio

logger = logging.getLogger(__name__)
Wave = NDArray[np.float32]
CLIP_SECONDS = 15.0  # s of each file; notes/codec.md: 13 clips, 3.3 min
CHROMA_HOP, CHROMA_FFT = 960, 4096  # samples; same
QUIET = 0.01  # of the loudest frame, -40 dB: below, chroma is not compared; same
ONSET_WINDOW = 0.05  # s; same
CENTS = 50.0  # within which a sung frame is in tune; same
LOWEST_NOTE, HIGHEST_NOTE = 65.0, 1050.0  # Hz; C2 to C6


@dataclass(frozen=True, slots=True)
class CodecScores:
    log_mel_l1: float  # nats
    chroma: float  # cosine, 0..1
    onset_f1: float  # 0..1 at 50 ms
    in_tune: float  # share of sung frames within 50 cents, solo voices only (pYIN here, swift-f0 in the notes)
    flux: float  # frame-to-frame change of the log-mel, 1 = as lively as the original
    level_db: float  # RMS of the reconstruction over that of the original
    codes: int  # distinct ones
    perplexity: float
    tokens: int  # that the last two were counted on
    encode_x: float  # x real time
    decode_x: float  # x real time
    clips: int
    voice_clips: int


@dataclass(frozen=True, slots=True)
class _Clip:
    voice: bool
    figures: dict[str, float]
    codes: NDArray[np.uint16]  # of the whole file
    seconds: tuple[float, float, float, float]  # of audio encoded, to encode it, decoded, to decode it


def evaluate(codec: Codec, audio_files: Sequence[Path], voice_name: str = CorpusConfig().voice_name) -> CodecScores:
    """Encode and decode every file; unusable ones are skipped, `ValueError` where none is left.

    Files whose name starts with `voice_name` are solo voices.
    """
    clips = []
    for path in audio_files:
        try:
            clips.append(_clip(codec, decode(str(path)), path.name.startswith(voice_name)))
        except BadInput as error:
            logger.warning("skipped: %s", error)
    if not clips:
        raise ValueError(f"none of {len(audio_files)} files can be used to evaluate the codec: give other audio")
    counts = np.bincount(np.concatenate([clip.codes for clip in clips]), minlength=CODEBOOK_SIZE)
    share = counts[counts > 0] / counts.sum()
    encoded, encoding, decoded, decoding = np.sum([clip.seconds for clip in clips], axis=0)
    return CodecScores(
        **{name: _mean([clip.figures[name] for clip in clips]) for name in clips[0].figures},
        codes=len(share),
        perplexity=float(np.exp(-np.sum(share * np.log(share)))),
        tokens=int(counts.sum()),
        encode_x=float(encoded / encoding),
        decode_x=float(decoded / decoding),
        clips=len(clips),
        voice_clips=sum(clip.voice for clip in clips),
    )


def _clip(codec: Codec, audio: Audio, voice: bool) -> _Clip:
    audio = resample(audio, SAMPLE_RATE)
    audio = apply_gain(audio, loudness_gain_db(audio))
    started = time.perf_counter()
    codes = codec.encode(audio)[0]
    encoded = time.perf_counter()
    length = min(len(codes) - 1, to_samples(CLIP_SECONDS, 25))
    start = (len(codes) - 1 - length) // 2
    played = codec.decode(codes[start : start + length])
    decoding = time.perf_counter() - encoded
    original, copy = to_24k(audio)[start * SAMPLES_PER_CODE :][: length * SAMPLES_PER_CODE], to_24k(played)
    figures = compare(original, copy, voice)
    return _Clip(voice, figures, codes, (audio.duration, encoded - started, played.duration, decoding))


def compare(original: Wave, copy: Wave, voice: bool) -> dict[str, float]:
    """The reconstruction figures of one clip, both sides ``[N]`` at 24 kHz."""
    mels = [log_mel(torch.from_numpy(wave), len(original) // SAMPLES_PER_CODE) for wave in (original, copy)]
    change = [float(mel.diff(dim=0).abs().mean()) for mel in mels]
    levels = [rms_dbfs(Audio(wave[None], MEL_RATE)) for wave in (original, copy)]
    return {
        "log_mel_l1": float((mels[0] - mels[1]).abs().mean()),
        "chroma": _chroma(original, copy),
        "onset_f1": _onset_f1(original, copy),
        "in_tune": _in_tune(original, copy) if voice else float("nan"),
        "flux": change[1] / change[0] if change[0] else float("nan"),
        "level_db": levels[1] - levels[0],
    }


def _chroma(original: Wave, copy: Wave) -> float:
    tables = [
        librosa.feature.chroma_stft(y=wave, sr=MEL_RATE, n_fft=CHROMA_FFT, hop_length=CHROMA_HOP, tuning=0.0, norm=2)
        for wave in (original, copy)
    ]
    loudness = librosa.feature.rms(y=original, frame_length=CHROMA_FFT, hop_length=CHROMA_HOP)[0]
    heard = loudness > QUIET * loudness.max()
    return float(np.sum(tables[0] * tables[1], axis=0)[heard].mean()) if heard.any() else float("nan")


def _onset_f1(original: Wave, copy: Wave) -> float:
    onsets = [librosa.onset.onset_detect(y=w, sr=MEL_RATE, hop_length=HOP, units="time") for w in (original, copy)]
    if not len(onsets[0]):
        return float("nan")
    if not len(onsets[1]):
        return 0.0
    return float(mir_eval.onset.f_measure(*onsets, window=ONSET_WINDOW)[0])


def _in_tune(original: Wave, copy: Wave) -> float:
    """Share of the original's sung frames that are sung in the copy too, within `CENTS`."""
    tracks = [
        librosa.pyin(wave, fmin=LOWEST_NOTE, fmax=HIGHEST_NOTE, sr=MEL_RATE, frame_length=1024, hop_length=2 * HOP)
        for wave in (original, copy)
    ]
    pitch, sung, _ = tracks[0]
    if not sung.any():
        return float("nan")
    with np.errstate(invalid="ignore"):
        cents = 1200 * np.abs(np.log2(tracks[1][0] / pitch))
    return float(np.mean(tracks[1][1][sung] & (cents[sung] <= CENTS)))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
