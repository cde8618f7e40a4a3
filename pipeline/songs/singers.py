"""Singers: a few base voices, and what makes a different person of them in every song."""

from dataclasses import dataclass

import numpy as np

from pipeline.songs.score import stream


@dataclass(frozen=True, slots=True)
class Base:
    """A voice of espeak-ng and the range in which it sounds like a person."""

    name: str
    voice: str
    low: int  # MIDI
    high: int  # MIDI


BASES: tuple[Base, ...] = (
    Base("Ada", "en-us+f2", 56, 74),
    Base("Ines", "en-us+f4", 57, 75),
    Base("Nora", "en-us+Annie", 55, 73),
    Base("Lena", "en+f3", 56, 74),
    Base("Vera", "en-us+f1", 54, 72),
    Base("Rosa", "en+f5", 56, 74),
    Base("Max", "en-us+m3", 45, 64),
    Base("Theo", "en-us+m7", 46, 65),
    Base("Ivo", "en-us", 44, 63),
    Base("Joel", "en+m1", 45, 64),
    Base("Karl", "en-us+m4", 43, 62),
    Base("Finn", "en+m6", 46, 65),
)


@dataclass(frozen=True, slots=True)
class Singer:
    """Who sings: a base voice with a body and habits of their own."""

    name: str
    voice: str
    low: int  # MIDI
    high: int  # MIDI
    formants: float  # factor on all formants: below 1 a longer throat
    tilt: float  # dB an octave above 1 kHz, on top of the base voice
    presence: float  # dB around 3 kHz
    air: float  # dB from 5 kHz up
    breath: float  # dB more noise in the vowels
    vibrato_rate: float  # Hz
    vibrato_depth: float  # semitones
    vibrato_onset: float  # s into a note
    glide: float  # s, standard deviation of the portamento
    scoops: float  # share of lines that start from below
    jitter: float  # semitones of fast wandering
    breaths: float  # how loudly they breathe in, 0..1


def singer_for(seed: int, role: str = "singer", near: Singer | None = None) -> Singer:
    """The singer of a song. A background singer `near` the lead has the lead's base voice, or one of their range."""
    rng = stream(seed, role)
    bases = BASES if near is None else tuple(base for base in BASES if abs(base.low - near.low) < 5)
    base = bases[int(rng.integers(len(bases)))]
    if near is not None and rng.random() < 0.6:  # as on records, where lead singers double themselves
        base = next(b for b in BASES if b.voice == near.voice)
    shift = int(rng.integers(-2, 3))
    return Singer(
        name=base.name,
        voice=base.voice,
        low=base.low + shift,
        high=base.high + shift,
        formants=round(float(np.clip(rng.normal(1.0, 0.05) + 0.008 * shift, 0.9, 1.12)), 4),
        tilt=round(float(rng.uniform(-3.0, 0.5)), 3),
        presence=round(float(rng.uniform(-5.0, 2.0)), 3),
        air=round(float(rng.uniform(1.0, 8.0)), 3),
        breath=round(float(rng.choice([0.0, 2.0, 5.0, 9.0], p=[0.35, 0.3, 0.25, 0.1])), 3),
        vibrato_rate=round(float(rng.uniform(4.7, 6.4)), 3),
        vibrato_depth=round(float(rng.choice([0.06, 0.2, 0.32, 0.5], p=[0.2, 0.35, 0.3, 0.15])), 3),
        vibrato_onset=round(float(rng.uniform(0.12, 0.45)), 3),
        glide=round(float(rng.uniform(0.012, 0.032)), 4),
        scoops=round(float(rng.uniform(0.1, 0.7)), 3),
        jitter=round(float(rng.uniform(0.02, 0.06)), 4),
        breaths=round(float(rng.uniform(0.2, 1.0)), 3),
    )
