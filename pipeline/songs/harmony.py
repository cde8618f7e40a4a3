"""Harmony: what background voices sing along with the lead, in choruses and sometimes elsewhere."""

import numpy as np

from pipeline.songs.score import Backing, Part, Score, Sung, Tone
from pipeline.songs.theory import nearest

KINDS = ("third above", "third below", "octave", "double")
NONE_SHARE = 0.35  # of the songs have no background voice; ours
TWO_SHARE = 0.45  # of the others have two
VERSE_ENDS = 0.3  # of the songs with voices use them on the last lines of verses and bridges too
SPREAD = 15  # semitones around the middle of the lead's range that a background voice keeps to


def backing_voices(rng: np.random.Generator, score: Score) -> tuple[Backing, ...]:
    """None, one or two background voices; same words and rhythm as the lead."""
    if not score.sung or rng.random() < NONE_SHARE:
        return ()
    count = 2 if rng.random() < TWO_SHARE else 1
    kinds = [str(kind) for kind in rng.permutation(KINDS)[:count]]
    everywhere = rng.random() < VERSE_ENDS
    pitches = [tone.pitch for sung in score.sung for tone in sung.tones]
    middle = round((min(pitches) + max(pitches)) / 2)
    chosen = [sung for sung in score.sung if _wanted(score, sung, everywhere)]
    return tuple(Backing(kind, tuple(_moved(score, sung, kind, middle) for sung in chosen)) for kind in kinds if chosen)


def _wanted(score: Score, sung: Sung, everywhere: bool) -> bool:
    part = score.part_at(sung.start)
    return part.label == "chorus" or (everywhere and _last_line(part, sung))


def _last_line(part: Part, sung: Sung) -> bool:
    return sung.start >= part.end - 2 * part.meter and part.bars > 2


def _moved(score: Score, sung: Sung, kind: str, middle: int) -> Sung:
    tones = tuple(Tone(t.start, t.length, _pitch(score, t, kind, middle)) for t in sung.tones)
    return Sung(sung.word, sung.syllable, tones, sung.opens, 0.8 * sung.effort)


def _pitch(score: Score, tone: Tone, kind: str, middle: int) -> int:
    """A third away inside the scale, on held notes one of the chord's; an octave towards the middle; or the same."""
    if kind == "double":
        return tone.pitch
    if kind == "octave":
        return tone.pitch + (12 if tone.pitch < middle else -12)
    side = 1 if kind == "third above" else -1
    chord, scale = score.chord_at(tone.start).tones, score.key.scale
    wanted = chord if tone.length >= 1.0 else scale
    steps = [step for step in (3, 4, 5, 7, 8) if (tone.pitch + side * step) % 12 in wanted]
    pitch = tone.pitch + side * (steps[0] if steps else 12)
    return pitch if abs(pitch - middle) <= SPREAD else nearest(pitch % 12, middle)
