"""Spoken "podcasts": sentences of our own, read by changing voices. Material that the gates must refuse."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from pipeline.songs.score import RATE, stream
from pipeline.songs.voice import speak

VOICES = ("en-us", "en", "en-us+f2", "en-us+m3", "en+f4", "en-us+Annie", "en+m7", "en-us+f3")
TOPICS = (
    "tea", "lighthouses", "sourdough bread", "night trains", "maps", "beekeeping", "old clocks", "rivers", "paper",
    "salt", "bicycles", "libraries", "glass", "weather forecasts", "bridges", "apples",
)  # fmt: skip
OPENERS = (
    "Hello and welcome back. Today we talk about {0}, and a little about {1}.",
    "This is a small programme about {0}. Last week it was {1}, as you may remember.",
    "Good evening. People have written to us and asked about {0}, so here is what we found.",
)
SENTENCES = (
    "In the early days nobody wrote anything down about {0}, so we rely on letters and on bills.",
    "The first thing to understand about {0} is that it used to be far more expensive than it is now.",
    "My grandmother had strong opinions on {0}, and most of them turned out to be right.",
    "There is a museum of {0} in a small town by the coast, and it is open on two days of the week.",
    "If you compare {0} with {1}, the difference is mostly a matter of patience.",
    "We asked three people who work with {0} every day, and they gave us four different answers.",
    "By the end of the century, {0} had changed the way that whole villages planned their year.",
    "I should say that I knew nothing of {0} before I started to prepare this episode.",
    "What surprised me is how much {0} depends on the temperature of the room.",
    "You can try this at home with {0}, but please open a window first.",
    "Some of you will say that {1} is a better subject, and you may be right about that.",
    "The numbers are small, yet every one of them tells us something about {0}.",
    "Let us pause here for a moment and think about what {0} means to the people who make it.",
    "It took eleven years before anybody noticed the mistake, and by then {0} was everywhere.",
)
CLOSERS = (
    "That is all for today about {0}. Thank you for listening.",
    "Next time we turn to {1}. Until then, goodbye.",
)


@dataclass(frozen=True, slots=True)
class Spoken:
    """A read text."""

    samples: NDArray[np.float64]  # [samples] at 48 kHz
    sentences: tuple[tuple[float, float, str], ...]  # start s, end s, text
    topic: str
    voices: tuple[str, ...]


def read_aloud(seed: int, seconds: tuple[float, float]) -> Spoken:
    """A podcast that lasts at least `seconds[0]` and at most `seconds[1]` (`ValueError` below 6 s)."""
    if seconds[1] < 6.0:
        raise ValueError(f"a podcast of at most {seconds[1]} s holds no sentence: ask for 6 s or more")
    rng = stream(seed, "podcast")
    topic, other = (str(word) for word in rng.choice(TOPICS, 2, replace=False))
    voices = tuple(str(voice) for voice in rng.choice(VOICES, int(rng.integers(1, 3)), replace=False))
    speeds = [int(rng.integers(140, 190)) for _ in voices]
    texts = _script(rng, topic, other)
    spoken = [speak(texts, voice, speed) for voice, speed in zip(voices, speeds, strict=True)]
    limit = float(rng.uniform(*seconds))
    pieces: list[NDArray[np.float64]] = [np.zeros(RATE // 4)]
    sentences: list[tuple[float, float, str]] = []
    at, speaker = len(pieces[0]), 0
    for index, text in enumerate(texts):
        utterance = spoken[speaker][index]
        sound = resample_poly(utterance.samples, RATE // 150, utterance.rate // 150)
        if sentences and (at + len(sound)) / RATE > limit:
            break
        sentences.append((at / RATE, (at + len(sound)) / RATE, text))
        pause = np.zeros(int(rng.uniform(0.2, 0.7) * RATE))
        pieces += [sound, pause]
        at += len(sound) + len(pause)
        speaker = int(rng.integers(len(voices))) if rng.random() < 0.4 else speaker
    return Spoken(np.concatenate(pieces), tuple(sentences), topic, voices)


def script(rng: np.random.Generator) -> tuple[str, ...]:
    """The sentences of a drawn topic, in a drawn order."""
    topic, other = (str(word) for word in rng.choice(TOPICS, 2, replace=False))
    return _script(rng, topic, other)


def _script(rng: np.random.Generator, topic: str, other: str) -> tuple[str, ...]:
    """Opener, all sentences in a drawn order, closer: the reader stops where the time is up."""
    body = [SENTENCES[i] for i in rng.permutation(len(SENTENCES))]
    lines = [str(rng.choice(OPENERS)), *body, str(rng.choice(CLOSERS))]
    return tuple(line.format(topic, other) for line in lines)
