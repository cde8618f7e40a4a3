"""Voice: words spoken by espeak-ng, analysed by WORLD into pitch, spectrum and breathiness, phone by phone.

Conventions: frames of 5 ms; phones carry their start in frames.
Source: WORLD (Morise 2016) through pyworld-prebuilt (MIT).
"""

import json
import logging
import os
import struct
import subprocess
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from pipeline.songs.extra import REMEDY, require

logger = logging.getLogger(__name__)
ANALYSIS_VERSION = 1
"""Raise it with any change of what a cached word holds."""
FRAME = 0.005  # s
FLOOR = 1e-16  # power
SPEAK_TIMEOUT = 300.0  # s, some hundred times what one request took here
WORD_RATE = 140  # words a minute: slow enough for clear vowels, ours
VOWELS = "aAeEiIoOuUV03@"  # first letters of espeak-ng's English vowel names
SYLLABIC = ("n-", "m-")
UNVOICED = ("p", "t", "k", "f", "T", "s", "S", "h", "tS", "C", "x")


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
    """A word, ready to be sung. The types are those of the cache on disk, so that a cached word sings the same."""

    rate: int
    phones: tuple[Phone, ...]
    end: float  # frames, where the last phone ends
    voiced: NDArray[np.bool_]  # [frames]
    spectrum: NDArray[np.float16]  # [frames, bins] natural log of WORLD's power spectrum, every second bin
    aperiodicity: NDArray[np.float16]  # [frames, bands] dB, as WORLD codes it


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
    """Words of one espeak-ng voice, analysed once: kept in the process and, as files, in the cache folder."""

    def __init__(self, voice: str) -> None:
        self.voice = voice
        self.known: dict[str, Analysed] = {}

    def learn(self, words: set[str], folder: Path | None) -> None:
        """Speak and analyse the words that neither the process nor `folder` knows; None: no files."""
        missing = sorted(words - self.known.keys())
        if folder:
            self.known |= {w: found for w in missing if (found := load(self._file(folder, w))) is not None}
        new = tuple(word for word in missing if word not in self.known)
        if new:
            for word, utterance in zip(new, speak(new, self.voice, WORD_RATE, pitch_range=0), strict=True):
                self.known[word] = analyse(utterance)
                if folder:
                    save(self._file(folder, word), self.known[word])

    def _file(self, folder: Path, word: str) -> Path:
        return folder / f"words-{ANALYSIS_VERSION}-{_analysers()}" / self.voice.replace("+", "_") / f"{word}.npz"

    def __getitem__(self, word: str) -> Analysed:
        return self.known[word]


@lru_cache(maxsize=16)
def vocabulary(voice: str) -> Vocabulary:
    """The process's vocabulary of a voice."""
    return Vocabulary(voice)


@cache
def _analysers() -> str:
    """The versions that a cached word depends on."""
    return "-".join(version(name) for name in ("espeakng-loader", "pyworld-prebuilt"))


def cache_folder() -> Path:
    """Where analysed words are kept: `BACKLINE_CACHE`, else `~/.cache/backline`."""
    return Path(os.environ.get("BACKLINE_CACHE") or Path.home() / ".cache" / "backline") / "songs"


def save(path: Path, word: Analysed) -> None:
    """Write one analysed word, whole or not at all; a folder that can't be written is no error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    names = np.array([phone.name for phone in word.phones])
    starts = np.array([phone.start for phone in word.phones])
    numbers = np.array([word.rate, word.end])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, numbers=numbers, names=names, starts=starts, voiced=word.voiced,
                     spectrum=word.spectrum, aperiodicity=word.aperiodicity)  # fmt: skip
        os.replace(partial, path)
    except OSError as error:
        logger.debug("%s is not cached: %s", path, error)


def load(path: Path) -> Analysed | None:
    """A word from the cache; None where it isn't there or can't be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            rate, end = data["numbers"]
            phones = tuple(Phone(str(n), float(s)) for n, s in zip(data["names"], data["starts"], strict=True))
            return Analysed(int(rate), phones, float(end), data["voiced"], data["spectrum"], data["aperiodicity"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def analyse(utterance: Utterance) -> Analysed:
    """WORLD analysis of one word, up to its last phone."""
    world: Any = require("pyworld")
    hop = utterance.rate * FRAME
    named = [(sample, name) for sample, name in utterance.phones if name]
    closing = [sample for sample, name in utterance.phones if not name and sample > named[-1][0]]
    last = closing[0] if closing else len(utterance.samples)
    x, rate = utterance.samples[: int(last + 8 * hop)], utterance.rate
    pitch, times = world.dio(x, rate, frame_period=FRAME * 1000)
    pitch = world.stonemask(x, pitch, times, rate)
    spectrum = np.log(world.cheaptrick(x, pitch, times, rate)[:, ::2] + FLOOR)
    aperiodicity = world.code_aperiodicity(world.d4c(x, pitch, times, rate), rate)
    phones = tuple(Phone(name, sample / hop) for sample, name in named)
    end = min(len(pitch) - 1.0, last / hop)
    return Analysed(rate, phones, end, pitch > 0, spectrum.astype(np.float16), aperiodicity.astype(np.float16))


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
