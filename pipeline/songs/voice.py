"""Voice: words spoken by espeak-ng, analysed by WORLD into pitch, spectrum and breathiness, phone by phone.

Conventions: frames of 5 ms; `spectrum` is WORLD's power spectrum, `aperiodicity` 0..1; phones carry
their start in frames.
Source: WORLD (Morise 2016) through pyworld-prebuilt (MIT).
"""

import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.songs.extra import REMEDY, require

FRAME = 0.005  # s
SPEAK_TIMEOUT = 300.0  # s, some hundred times what one request took here
WORD_RATE = 140  # words a minute: slow enough for clear vowels, ours
VOWELS = "aAeEiIoOuUV03@"  # first letters of espeak-ng's English vowel names
SYLLABIC = ("n-", "m-")
UNVOICED = ("p", "t", "k", "f", "T", "s", "S", "h", "tS", "C", "x")


@dataclass(frozen=True, slots=True)
class Singer:
    """A voice that sings: an espeak-ng voice and the range in which it sounds like a person."""

    name: str
    voice: str
    low: int  # MIDI
    high: int  # MIDI
    vibrato: float  # Hz


SINGERS: tuple[Singer, ...] = (
    Singer("Ada", "en-us+f2", 56, 74, 5.6),
    Singer("Ines", "en-us+f4", 57, 75, 5.9),
    Singer("Nora", "en-us+Annie", 55, 73, 5.3),
    Singer("Lena", "en+f3", 56, 74, 5.5),
    Singer("Max", "en-us+m3", 45, 64, 5.1),
    Singer("Theo", "en-us+m7", 46, 65, 5.4),
    Singer("Ivo", "en-us", 44, 63, 5.0),
    Singer("Joel", "en+m1", 45, 64, 5.7),
)


@dataclass(frozen=True, slots=True)
class Phone:
    """One speech sound."""

    name: str
    start: float  # frames

    @property
    def vowel(self) -> bool:
        return self.name[:1] in VOWELS or self.name in SYLLABIC

    @property
    def voiced(self) -> bool:
        return self.name not in UNVOICED


@dataclass(frozen=True, slots=True)
class Utterance:
    """What espeak-ng said."""

    samples: NDArray[np.float64]  # [samples], full scale +-1
    rate: int  # Hz
    phones: tuple[tuple[int, str], ...]  # (sample, espeak-ng's name without stress marks), pauses as ""


@dataclass(frozen=True, slots=True)
class Analysed:
    """A word, ready to be sung."""

    rate: int
    phones: tuple[Phone, ...]
    end: float  # frames, where the last phone ends
    pitch: NDArray[np.float64]  # [frames] Hz, 0 = unvoiced
    spectrum: NDArray[np.float64]  # [frames, bins]
    aperiodicity: NDArray[np.float64]  # [frames, bins]


def speak(texts: tuple[str, ...], voice: str, rate: int, pitch: int = 50, pitch_range: int = 50) -> list[Utterance]:
    """Speech of each text. `rate` words a minute, `pitch` and `pitch_range` 0..100 as espeak-ng takes them.

    Raises `BackendUnavailable` where espeak-ng is missing, `PipelineError` where it fails.
    """
    require("espeakng_loader")
    request = json.dumps({"voice": voice, "rate": rate, "pitch": pitch, "range": pitch_range, "texts": texts})
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.songs.espeak"],
        input=request.encode(),
        capture_output=True,
        check=False,
        timeout=SPEAK_TIMEOUT,
    )
    if done.returncode != 0:
        raise PipelineError(f"espeak-ng failed on voice {voice!r}: {done.stderr.decode()[-400:]}; check {REMEDY}")
    return _unpack(done.stdout)


def _unpack(data: bytes) -> list[Utterance]:
    utterances: list[Utterance] = []
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        head, pcm = data[at + 4 : at + 4 + size].split(b"\n", 1)
        at += 4 + size
        info = json.loads(head)
        samples = np.frombuffer(pcm, dtype="<i2").astype(np.float64) / 32768.0
        phones = tuple(
            (int(sample), name.strip("',%_:|") if name.startswith("_") else name.strip("',%"))
            for sample, name in info["phones"]
        )
        utterances.append(Utterance(samples, int(info["rate"]), phones))
    return utterances


class Vocabulary:
    """Words of one singer, analysed once per process."""

    def __init__(self, voice: str) -> None:
        self.voice = voice
        self.known: dict[str, Analysed] = {}

    def learn(self, words: set[str]) -> None:
        """Speak and analyse the words that are new."""
        new = tuple(sorted(words - self.known.keys()))
        if new:
            for word, utterance in zip(new, speak(new, self.voice, WORD_RATE, pitch_range=0), strict=True):
                self.known[word] = analyse(utterance)

    def __getitem__(self, word: str) -> Analysed:
        return self.known[word]


@lru_cache(maxsize=16)
def vocabulary(voice: str) -> Vocabulary:
    """The process's vocabulary of a voice."""
    return Vocabulary(voice)


def analyse(utterance: Utterance) -> Analysed:
    """WORLD analysis of one word."""
    world: Any = require("pyworld")
    x, rate = utterance.samples, utterance.rate
    pitch, times = world.dio(x, rate, frame_period=FRAME * 1000)
    pitch = world.stonemask(x, pitch, times, rate)
    spectrum = world.cheaptrick(x, pitch, times, rate)
    aperiodicity = world.d4c(x, pitch, times, rate)
    hop = rate * FRAME
    named = [(sample, name) for sample, name in utterance.phones if name]
    closing = [sample for sample, name in utterance.phones if not name and sample > named[-1][0]]
    end = min(len(pitch) - 1.0, (closing[0] if closing else len(x)) / hop)
    phones = tuple(Phone(name, sample / hop) for sample, name in named)
    return Analysed(rate, phones, end, pitch, spectrum, aperiodicity)


def syllables(word: Analysed, count: int) -> list[tuple[float, float, float, float]]:
    """Split a word into `count` syllables: (start, vowel start, vowel end, end) in frames.

    One consonant between two vowels belongs to the second; of several the first closes the first syllable. Of vowels in
    a row ("our") the spare ones are merged; a word that still has another number of vowels is split evenly by time.
    """
    starts = [phone.start for phone in word.phones] + [word.end]
    vowels = nuclei(word.phones, count)
    if len(vowels) != count:
        edges = np.linspace(starts[0], word.end, count + 1)
        return [(a, a + 0.2 * (b - a), a + 0.85 * (b - a), b) for a, b in pairwise(edges)]
    cuts = [0]
    for (_, last), (first, _) in pairwise(vowels):
        between = first - last - 1
        cuts.append(last + 1 + (between > 1))
    cuts.append(len(word.phones))
    return [
        (starts[a], starts[first], starts[last + 1], starts[b])
        for (first, last), (a, b) in zip(vowels, pairwise(cuts), strict=True)
    ]


def nuclei(phones: tuple[Phone, ...], count: int) -> list[tuple[int, int]]:
    """(first, last) phone of every vowel; neighbours are joined while there are more than `count`."""
    found = [(index, index) for index, phone in enumerate(phones) if phone.vowel]
    for left, right in list(pairwise(found)):
        if len(found) > count and right[0] == left[1] + 1 and left in found:
            found[found.index(left) : found.index(right) + 1] = [(left[0], right[1])]
    return found
