"""How well files of one recording are told from other music: copies made of real songs, and all pairs of songs.

Conventions: a copy counts as found if the index of all songs gives its song and nothing else and the words agree; a
false match is a pair of different songs that does. Copies are made of the first minute of a song.
"""

import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt
from scipy.stats import binomtest

from pipeline.audio import decode, resample
from pipeline.fingerprint import Words, compare, fingerprint, is_copy, sketch
from pipeline.records.lookup import DRIFT, Indexed, Lookup
from pipeline.types import Audio

SECONDS = 60  # s of a song that copies are made of
EXHAUSTIVE = 60  # songs that are compared pair by pair at every offset
LEAST_SHARE = 0.5  # of the shorter song, at such an offset
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Recall:
    """One way to change a file."""

    change: str
    n: int
    found: int
    low: float  # lower end of the exact 95 % interval of the share found
    errors_median: float  # share of bits, copy against song
    errors_worst: float
    shared_least: int  # words of the sketches at one offset


@dataclass(frozen=True, slots=True)
class Others:
    """Different songs."""

    songs: int
    hours: float
    pairs: int
    candidates: int  # pairs that were compared word by word
    false_matches: int
    high: float  # upper end of the exact 95 % interval of their share
    nearest: tuple[str, str, float]  # of the candidates: two songs and their errors
    exhaustive_pairs: int
    exhaustive_least: float  # errors at the best of all offsets
    fingerprint_speed: float  # x real time, CPU
    decode_speed: float  # x real time, CPU


def at(rate: int) -> Callable[[Audio], Audio]:
    return lambda audio: resample(audio, rate)


def mp3(level: float) -> Callable[[Audio], Audio]:
    """`level` 0.9 is 56 kbit/s at 44.1 kHz stereo, 0.72 is 112, 0 is 320."""
    return lambda audio: _coded(resample(audio, 44_100), "MP3", "MPEG_LAYER_III", level)


def cut(start: float, end: float) -> Callable[[Audio], Audio]:
    """Without so many seconds at the start and at the end."""

    def change(audio: Audio) -> Audio:
        stop = audio.length - round(end * audio.sample_rate)
        return Audio(np.ascontiguousarray(audio.samples[:, round(start * audio.sample_rate) : stop]), audio.sample_rate)

    return change


def brighter(audio: Audio) -> Audio:
    """6 dB more above 1 kHz."""
    return _with(audio, audio.samples + _filtered(audio, 1000, "high"))


def darker(audio: Audio) -> Audio:
    """6 dB more below 300 Hz."""
    return _with(audio, audio.samples + _filtered(audio, 300, "low"))


def driven(audio: Audio) -> Audio:
    """A soft limiter, 10 dB into it."""
    return _with(audio, np.tanh(10**0.5 * audio.samples))


CHANGES: Mapping[str, Sequence[Callable[[Audio], Audio]]] = {
    "mp3_320": [mp3(0.0)],
    "mp3_112": [mp3(0.72)],
    "mp3_56": [mp3(0.9)],
    "vorbis_low": [lambda audio: _coded(audio, "OGG", "VORBIS", 0.95)],
    "rate_32k": [at(32_000)],
    "rate_16k": [at(16_000)],
    "gain_-14_dB": [lambda audio: _with(audio, 0.2 * audio.samples)],
    "left_only": [lambda audio: _with(audio, audio.samples[:1])],
    "brighter": [brighter],
    "darker": [darker],
    "limited": [driven],
    "cut_3_5": [cut(3.37, 5.11)],
    "excerpt_30": [cut(12.34, 17.66)],
    "all": [brighter, driven, cut(10.03, 0.0), mp3(0.9)],
}


def recall(
    songs: Sequence[Path],
    changed: int,
    known: Mapping[Path, Words],
    show: Progress,
    changes: Mapping[str, Sequence[Callable[[Audio], Audio]]] = CHANGES,
) -> Iterator[Recall]:
    """Copies of the first `changed` songs, looked up among all of them."""
    lookup = Lookup()
    lookup.add(Indexed(str(path), 0, sketch(words)) for path, words in known.items())
    told: dict[str, list[tuple[bool, float, int]]] = {name: [] for name in changes}
    for done, path in enumerate(songs[:changed], start=1):
        audio = decode(str(path))
        whole = Audio(audio.samples[:, : SECONDS * audio.sample_rate], audio.sample_rate)
        for name, steps in changes.items():
            copy = whole
            for step in steps:
                copy = step(copy)
            told[name].append(_asked(lookup, known, fingerprint(copy), path))
        show(done, changed)
    for name, found in told.items():
        right, errors, shared = (list(column) for column in zip(*found, strict=True))
        low = float(binomtest(sum(right), len(right)).proportion_ci().low)
        yield Recall(name, len(right), sum(right), low, float(np.median(errors)), max(errors), min(shared))


def _asked(lookup: Lookup, known: Mapping[Path, Words], words: Words, path: Path) -> tuple[bool, float, int]:
    """Whether exactly this song was found; its errors and the words shared, 1 and 0 where it was no candidate."""
    found, mine = set[str](), (1.0, 0)
    for candidate in lookup.candidates(sketch(words)):
        other = known[Path(candidate.track_id)]
        errors, same = _likeness(words, other, candidate.offset)
        if same:
            found.add(candidate.track_id)
        if candidate.track_id == str(path):
            mine = (errors, candidate.shared)
    return found == {str(path)}, *mine


def _likeness(words: Words, other: Words, offset: int) -> tuple[float, bool]:
    near = range(offset - DRIFT - 1, offset + DRIFT + 2)
    best = min((compare(words, other, at) for at in near), key=lambda likeness: likeness.errors)
    return best.errors, is_copy(words, other, best)


def fingerprints(songs: Sequence[Path], show: Progress) -> tuple[dict[Path, Words], tuple[float, float, float]]:
    """The words of every song; seconds of audio, of decoding (CPU) and of fingerprinting (CPU)."""
    known: dict[Path, Words] = {}
    audio_seconds = decoding = working = 0.0
    for done, path in enumerate(songs, start=1):
        began = time.process_time()
        audio = decode(str(path))
        between = time.process_time()
        known[path] = fingerprint(audio)
        audio_seconds += audio.duration
        decoding, working = decoding + between - began, working + time.process_time() - between
        show(done, len(songs))
    return known, (audio_seconds, decoding, working)


def others(known: Mapping[Path, Words], spent: tuple[float, float, float]) -> Others:
    """All pairs of songs, as a build compares them, and some at every offset."""
    lookup, near = Lookup(), list[tuple[str, str, float]]()
    matches = 0
    for path, words in known.items():
        likely = sketch(words)
        for candidate in lookup.candidates(likely):
            errors, same = _likeness(words, known[Path(candidate.track_id)], candidate.offset)
            near.append((candidate.track_id, str(path), errors))
            matches += same
        lookup.add([Indexed(str(path), 0, likely)])
    some = list(known.values())[:: max(1, len(known) // EXHAUSTIVE)]
    least = [least_errors(one, other) for one, other in combinations(some, 2)]
    pairs = len(known) * (len(known) - 1) // 2
    seconds, decoding, working = spent
    return Others(
        len(known), seconds / 3600, pairs, len(near), matches,
        float(binomtest(matches, pairs).proportion_ci().high),
        min(near, key=lambda item: item[2], default=("", "", 1.0)), len(least), min(least, default=1.0),
        seconds / working, seconds / decoding,
    )  # fmt: skip


def least_errors(one: Words, other: Words) -> float:
    """The share of bits that differ at the best offset at which half of the shorter song is compared."""
    size = 1 << (len(one) + len(other)).bit_length()
    signs = [_signs(words, size) for words in (one, other)]
    agreed = np.fft.irfft((signs[0].conj() * signs[1]).sum(axis=1), size)
    offsets = np.arange(1 - len(one), len(other))
    overlap = np.minimum(len(one), len(other) - offsets) - np.maximum(0, -offsets)
    errors = (1 - agreed[offsets % size] / (32 * overlap)) / 2
    return float(errors[overlap >= LEAST_SHARE * min(len(one), len(other))].min())


def _signs(words: Words, size: int) -> NDArray[np.complex128]:
    bits = np.unpackbits(words.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)
    return np.fft.rfft(2.0 * bits - 1, size, axis=0)


def to_json(result: Recall | Others) -> str:
    return json.dumps(asdict(result))


def _with(audio: Audio, samples: NDArray[np.floating]) -> Audio:
    return Audio(samples.astype(np.float32), audio.sample_rate)


def _filtered(audio: Audio, hertz: float, kind: str) -> NDArray[np.float64]:
    filtered: NDArray[np.float64] = sosfilt(butter(1, hertz, kind, fs=audio.sample_rate, output="sos"), audio.samples)
    return filtered


def _coded(audio: Audio, container: str, subtype: str, level: float) -> Audio:
    buffer = io.BytesIO()
    options = {"bitrate_mode": "CONSTANT"} if container == "MP3" else {}
    with soundfile.SoundFile(
        buffer, "w", audio.sample_rate, audio.channels, subtype, format=container, compression_level=level, **options
    ) as file:
        for begin in range(0, audio.length, 65_536):  # libsndfile's Vorbis writer overflows on one long call
            file.write(audio.samples.T[begin : begin + 65_536])
    buffer.seek(0)
    samples, rate = soundfile.read(buffer, dtype="float32", always_2d=True)
    return Audio(np.ascontiguousarray(samples.T), rate)
