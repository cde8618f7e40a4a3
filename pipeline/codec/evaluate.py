"""What the codec keeps of a recording: melody, harmony, beat, texture, level, and how fast it is.

Conventions: both sides are mono at 24 kHz, clips are the middle 15 s of each file, peak-normalised to 0.9 before they
are encoded; pitch as in `tune`; codes are counted on whole files; NaN where a figure has nothing to be measured on.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import mir_eval
import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.audio import decode, resample, rms_dbfs, to_samples
from pipeline.codec.codec import CODEBOOK_SIZE, FRAME_RATE, SAMPLE_RATE, Codec, Codes
from pipeline.codec.corpus import CorpusConfig
from pipeline.codec.mel import HOP, SAMPLES_PER_CODE, log_mel, to_24k
from pipeline.codec.mel import SAMPLE_RATE as MEL_RATE
from pipeline.codec.tune import in_tune
from pipeline.codec.vocoder import synthesise
from pipeline.errors import BadInput
from pipeline.jit import librosa
from pipeline.types import Audio

logger = logging.getLogger(__name__)
Wave = NDArray[np.float32]
T = TypeVar("T")
PEAK = 0.9  # of every clip
CLIP_SECONDS = 15.0  # s of each file
COUNTED_TOKENS = 30_000  # drawn from all files for codes and perplexity, which grow with the sample; ours
CHROMA_HOP, CHROMA_FFT = 960, 4096  # samples
QUIET = 0.01  # of the loudest frame, -40 dB: below, chroma is not compared
ONSET_WINDOW = 0.05  # s
TIMINGS = 3  # of a clip, of which the fastest counts; ours
RESAMPLES = 1000  # of the bootstrap behind the intervals; ours
FIGURES = ("log_mel_l1", "chroma", "onset_f1", "in_tune", "flux", "level_db")


@dataclass(frozen=True, slots=True)
class CodecScores:
    """Means over clips; codes and speed over everything."""

    log_mel_l1: float  # nats
    chroma: float  # cosine, 0..1
    onset_f1: float  # 0..1 at 50 ms
    in_tune: float  # share of surely sung frames within 50 cents (`tune`), solo voices only
    flux: float  # frame-to-frame change of the log-mel, 1 = as lively as the original
    level_db: float  # RMS of the reconstruction over that of the original
    codes: int  # distinct ones
    perplexity: float
    tokens: int  # that the last two were counted on: 30,000 where the files have as many
    encode_x: float  # x real time on torch's threads, by CPU time
    decode_x: float  # the same
    clips: int
    voice_clips: int


@dataclass(frozen=True, slots=True)
class ClipScores:
    """One file."""

    path: Path
    voice: bool
    figures: dict[str, float]  # `FIGURES`
    codes: Codes  # [T] of the whole file
    seconds: tuple[float, float, float, float]  # of the clip encoded, to encode it, decoded, to decode it


def evaluate(codec: Codec, audio_files: Sequence[Path], voice_name: str = CorpusConfig().voice_name) -> CodecScores:
    """Encode and decode every file; unusable ones are skipped, `ValueError` where none is left.

    Files whose name starts with `voice_name` are solo voices.
    """
    return summary(evaluate_clips(codec, audio_files, voice_name))


def evaluate_clips(
    codec: Codec,
    audio_files: Sequence[Path],
    voice_name: str = CorpusConfig().voice_name,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[ClipScores]:
    """The same, file by file, in the files' order; `summary` and `intervals` sum them up."""
    clips = []
    for done, path in enumerate(audio_files):
        try:
            audio = resample(decode(str(path)), SAMPLE_RATE)
            clips.append(_clip(codec, path, audio, path.name.startswith(voice_name)))
        except BadInput as error:
            logger.warning("skipped: %s", error)
        progress(done + 1, len(audio_files))
    if not clips:
        raise ValueError(f"none of {len(audio_files)} files can be used to evaluate the codec: give other audio")
    return clips


def evaluate_vocoder(
    audio_files: Sequence[Path], voice_name: str = CorpusConfig().voice_name
) -> list[dict[str, float]]:
    """The figures of true log-mel -> wave alone, file by file: what no codes can beat."""
    found = []
    for path in audio_files:
        original = to_24k(_middle(resample(decode(str(path)), SAMPLE_RATE)))
        copy = synthesise(log_mel(torch.from_numpy(original), len(original) // SAMPLES_PER_CODE))
        found.append(compare(original, copy.numpy(), path.name.startswith(voice_name)))
    return found


def summary(clips: Sequence[ClipScores]) -> CodecScores:
    """Means over clips, codes of all files, speed of all work. Another choice of clips needs no new decoding."""
    codes, perplexity, tokens = code_use([clip.codes for clip in clips])
    encoded, encoding, decoded, decoding = np.sum([clip.seconds for clip in clips], axis=0)
    return CodecScores(
        **{name: _mean([clip.figures[name] for clip in clips]) for name in FIGURES},
        codes=codes,
        perplexity=perplexity,
        tokens=tokens,
        encode_x=float(encoded / encoding),
        decode_x=float(decoded / decoding),
        clips=len(clips),
        voice_clips=sum(clip.voice for clip in clips),
    )


def intervals(clips: Sequence[ClipScores], seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % bootstrap interval of the mean of each of `FIGURES` over clips; NaN where none has the figure."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in FIGURES:
        known = np.array([clip.figures[name] for clip in clips if not np.isnan(clip.figures[name])])
        if not known.size:
            found[name] = (float("nan"), float("nan"))
            continue
        means = known[rng.integers(0, known.size, (RESAMPLES, known.size))].mean(axis=1)
        low, high = np.quantile(means, (0.025, 0.975))
        found[name] = (float(low), float(high))
    return found


def code_use(codes: Sequence[Codes], limit: int = COUNTED_TOKENS, seed: int = 0) -> tuple[int, float, int]:
    """Distinct codes and perplexity of `limit` tokens drawn from all files (of all, where there are fewer), and how
    many were counted."""
    tokens = np.concatenate(codes)
    if len(tokens) > limit:
        tokens = np.random.default_rng(seed).choice(tokens, limit, replace=False)
    counts = np.bincount(tokens, minlength=CODEBOOK_SIZE)
    share = counts[counts > 0] / len(tokens)
    return len(share), float(np.exp(-np.sum(share * np.log(share)))), len(tokens)


def _clip(codec: Codec, path: Path, audio: Audio, voice: bool) -> ClipScores:
    clip = _middle(audio)
    found, encoding = _fastest(lambda: codec.encode(clip))
    heard = found[0, : clip.length * FRAME_RATE // SAMPLE_RATE]
    played, decoding = _fastest(lambda: codec.decode(heard))
    figures = compare(to_24k(clip), to_24k(played), voice)
    codes = codec.encode(_at_peak(audio))[0]
    return ClipScores(path, voice, figures, codes, (clip.duration, encoding, played.duration, decoding))


def _fastest(work: Callable[[], T]) -> tuple[T, float]:
    """What the work gives, and the least of `TIMINGS` times that it took: CPU seconds over torch's threads, which the
    other work of a busy machine moves least."""
    least = np.inf
    for _ in range(TIMINGS):
        started = time.process_time()
        result = work()
        least = min(least, (time.process_time() - started) / torch.get_num_threads())
    return result, float(least)


def _middle(audio: Audio) -> Audio:
    """The clip: whole codes; `BadInput` where the file has not one."""
    unit = SAMPLE_RATE // FRAME_RATE
    length = min(audio.length, to_samples(CLIP_SECONDS, SAMPLE_RATE)) // unit * unit
    if not length:
        raise BadInput(f"a file of {audio.duration:.3f} s is shorter than a code, 0.04 s")
    start = (audio.length - length) // 2
    return _at_peak(Audio(audio.samples[:, start : start + length], SAMPLE_RATE))


def _at_peak(audio: Audio) -> Audio:
    """Mono, since the codec hears that, at the peak of the definition; silence stays silence."""
    mono = audio.samples.mean(axis=0, keepdims=True)
    peak = float(np.abs(mono).max(initial=0.0))
    return Audio(mono * np.float32(PEAK / peak) if peak else mono, audio.sample_rate)


def compare(original: Wave, copy: Wave, voice: bool) -> dict[str, float]:
    """The reconstruction figures of one clip, both sides ``[N]`` at 24 kHz."""
    mels = [log_mel(torch.from_numpy(wave), len(original) // SAMPLES_PER_CODE) for wave in (original, copy)]
    change = [float(mel.diff(dim=0).abs().mean()) for mel in mels]
    levels = [rms_dbfs(Audio(wave[None], MEL_RATE)) for wave in (original, copy)]
    return {
        "log_mel_l1": float((mels[0] - mels[1]).abs().mean()),
        "chroma": _chroma(original, copy),
        "onset_f1": _onset_f1(original, copy),
        "in_tune": in_tune(original, copy) if voice else float("nan"),
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


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
