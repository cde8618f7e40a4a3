"""Rhythm and pitch of one line: notes that follow the chords, move mostly by step and breathe at the end."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.songs.score import Tone
from pipeline.songs.theory import Chord, Key

ChordAt = Callable[[float], Chord]


@dataclass(frozen=True, slots=True)
class Register:
    """Where a melody lies."""

    low: int  # MIDI
    high: int  # MIDI
    centre: float  # MIDI


def rhythm(rng: np.random.Generator, notes: int, beats: float, grid: float) -> list[tuple[float, float]]:
    """(start, length) of `notes` notes in a line of `beats`, the last one held, a rest behind it.

    Lengths are multiples of `grid` (beats); notes get at most `beats - 2 * grid` in all.
    """
    slots = round(beats / grid)
    tail = int(rng.integers(2, max(3, slots // 5 + 1)))  # rest at the end, in slots
    start = int(rng.choice([0, 0, 1, 2])) if slots - tail - notes > 4 else 0
    room = max(notes + 1, slots - tail - start)
    lengths = np.ones(notes, dtype=int)
    lengths[-1] += min(room - notes, int(rng.integers(1, 5)))
    weights = np.ones(notes)
    weights[1::2] = 0.5
    while (spare := room - int(lengths.sum())) > 0:
        index = int(rng.choice(notes, p=weights / weights.sum()))
        lengths[index] += min(spare, 2 if lengths[index] == 2 and rng.random() < 0.3 else 1)
    ends = start + np.cumsum(lengths)
    return [(float((end - length) * grid), float(length * grid)) for end, length in zip(ends, lengths, strict=True)]


def pitches(
    rng: np.random.Generator, timing: list[tuple[float, float]], key: Key, chord_at: ChordAt, register: Register
) -> list[Tone]:
    """Pitches for a rhythm: scale notes, chord notes on strong beats and at the end, inside the register."""
    scale = [p for p in range(register.low, register.high + 1) if p % 12 in key.scale]
    arch = float(rng.uniform(2.0, 5.0)) * (1 if rng.random() < 0.75 else -1)
    tilt = float(rng.uniform(-3.0, 1.5))
    tones: list[Tone] = []
    for index, (start, length) in enumerate(timing):
        place = index / max(1, len(timing) - 1)
        wish = register.centre + arch * np.sin(np.pi * place) + tilt * (place - 0.5)
        chord = chord_at(start)
        strong = start % 2 < 0.01 or length >= 1.5 or index == len(timing) - 1
        allowed = [p for p in scale if p % 12 in chord.tones] if strong else _beside(scale, chord, key)
        previous = tones[-1].pitch if tones else round(wish)
        cost = [_cost(p, previous, float(wish), len(tones) > 0) + float(rng.exponential(1.2)) for p in allowed]
        tones.append(Tone(start, length, allowed[int(np.argmin(cost))]))
    return tones


def _beside(scale: list[int], chord: Chord, key: Key) -> list[int]:
    """Scale notes that don't rub against a chord note from outside the key (A natural over F minor in C)."""
    foreign = [tone for tone in chord.tones if tone not in key.scale]
    return [p for p in scale if all((p - tone) % 12 not in (1, 11) for tone in foreign)]


def _cost(pitch: int, previous: int, wish: float, moving: bool) -> float:
    leap = abs(pitch - previous)
    stay = 1.2 if moving and leap == 0 else 0.0
    return 0.45 * abs(pitch - wish) + 0.35 * leap + (4.0 if leap > 7 else 0.0) + stay


def decorated(rng: np.random.Generator, tone: Tone, key: Key, register: Register) -> tuple[Tone, ...]:
    """A held note, sometimes resolved by step from the scale note above (two notes on one syllable)."""
    if tone.length < 1.5 or rng.random() > 0.35:
        return (tone,)
    above = next((p for p in range(tone.pitch + 1, register.high + 1) if p % 12 in key.scale), None)
    if above is None:
        return (tone,)
    return (Tone(tone.start, 0.5, above), Tone(tone.start + 0.5, tone.length - 0.5, tone.pitch))
