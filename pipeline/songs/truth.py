"""Truth: everything that is known about a rendered file, as `truth.json` holds it.

Conventions: times in seconds from the start of the file; intervals half-open; MIDI pitches; chords in Harte's notation.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipeline.songs.score import BEATS_PER_BAR, Score

RENDERER_VERSION = 1
"""Raise it when the same seed gives other audio or another truth."""
Kind = Literal["song", "speech", "instrumental"]


@dataclass(frozen=True, slots=True)
class SectionTruth:
    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class ChordTruth:
    start: float
    end: float
    name: str
    pitch_classes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NoteTruth:
    start: float
    end: float
    pitch: int
    syllable: str
    word: int  # index into Truth.words


@dataclass(frozen=True, slots=True)
class WordTruth:
    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class InstrumentTruth:
    name: str
    program: int
    drums: bool
    onsets: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Truth:
    """One rendered file. Spoken files have words only per sentence, instrumentals have no words."""

    kind: Kind
    seed: int
    renderer_version: int
    title: str
    artist: str
    licence: str
    duration: float
    samples: int  # per channel at 48 kHz
    style: str
    text: str
    voice: str
    key: str
    tempo: float  # beats a minute, 0 for speech
    sections: tuple[SectionTruth, ...]
    beats: tuple[float, ...]
    downbeats: tuple[float, ...]
    chords: tuple[ChordTruth, ...]
    notes: tuple[NoteTruth, ...]
    words: tuple[WordTruth, ...]
    lyrics: str
    instruments: tuple[InstrumentTruth, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def read_truth(path: Path) -> Truth:
    """Truth from a `truth.json`."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data["sections"] = tuple(SectionTruth(**item) for item in data["sections"])
    data["chords"] = tuple(ChordTruth(**item | {"pitch_classes": tuple(item["pitch_classes"])}) for item in data["chords"])
    data["notes"] = tuple(NoteTruth(**item) for item in data["notes"])
    data["words"] = tuple(WordTruth(**item) for item in data["words"])
    data["instruments"] = tuple(InstrumentTruth(**i | {"onsets": tuple(i["onsets"])}) for i in data["instruments"])
    return Truth(**data | {"beats": tuple(data["beats"]), "downbeats": tuple(data["downbeats"])})


def section_truth(score: Score, duration: float) -> tuple[SectionTruth, ...]:
    """Sections that tile [0, duration): the outro rings to the end of the file."""
    ends = [score.seconds(part.end) for part in score.parts]
    ends[-1] = duration
    starts = [0.0, *ends[:-1]]
    return tuple(SectionTruth(round(a, 6), round(b, 6), p.label) for a, b, p in zip(starts, ends, score.parts, strict=True))


def beat_truth(score: Score) -> tuple[float, ...]:
    return tuple(round(score.seconds(beat), 6) for beat in range(score.beats))


def chord_truth(score: Score) -> tuple[ChordTruth, ...]:
    bar = score.seconds(BEATS_PER_BAR)
    chords = [chord for part in score.parts for chord in part.chords]
    return tuple(
        ChordTruth(round(i * bar, 6), round((i + 1) * bar, 6), chord.name, chord.tones) for i, chord in enumerate(chords)
    )


def note_truth(score: Score) -> tuple[NoteTruth, ...]:
    return tuple(
        NoteTruth(
            round(score.seconds(tone.start), 6),
            round(score.seconds(tone.start + tone.length), 6),
            tone.pitch,
            score.words[sung.word].syllables[sung.syllable],
            sung.word,
        )
        for sung in score.sung
        for tone in sung.tones
    )


def word_truth(score: Score) -> tuple[WordTruth, ...]:
    starts: dict[int, float] = {}
    ends: dict[int, float] = {}
    for sung in score.sung:
        starts.setdefault(sung.word, score.seconds(sung.start))
        ends[sung.word] = score.seconds(sung.end)
    return tuple(WordTruth(round(starts[i], 6), round(ends[i], 6), word.text) for i, word in enumerate(score.words))


def lyrics_text(score: Score) -> str:
    return "\n".join(" ".join(word.text for word in score.words[a:b]) for a, b in score.lines)
