"""Truth: everything that is known about a rendered file, as `truth.json` holds it.

Conventions: times in seconds from the start of the file; intervals half-open; MIDI pitches; chords in Harte's notation.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pipeline.songs.arranger import Track, describe
from pipeline.songs.podcast import Spoken
from pipeline.songs.score import BEATS_PER_BAR, RATE, Score

RENDERER_VERSION = 2
"""Raise it when the same seed gives other audio or another truth."""
LICENCE = "own work; sounds rendered with espeak-ng (GPL-3.0) and TimGM6mb (GPL-2.0)"
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
    asked_seconds: tuple[float, float]  # shortest and longest that was asked for
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


def is_current(path: Path) -> bool:
    """Whether a `truth.json` is there and written by this version of the renderer."""
    return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["renderer_version"] == RENDERER_VERSION


def read_truth(path: Path) -> Truth:
    """Truth from a `truth.json` of this version (`is_current`)."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data["sections"] = tuple(SectionTruth(**item) for item in data["sections"])
    data["chords"] = tuple(
        ChordTruth(**item | {"pitch_classes": tuple(item["pitch_classes"])}) for item in data["chords"]
    )
    data["notes"] = tuple(NoteTruth(**item) for item in data["notes"])
    data["words"] = tuple(WordTruth(**item) for item in data["words"])
    data["instruments"] = tuple(InstrumentTruth(**i | {"onsets": tuple(i["onsets"])}) for i in data["instruments"])
    data["asked_seconds"] = (float(data["asked_seconds"][0]), float(data["asked_seconds"][1]))
    return Truth(**data | {"beats": tuple(data["beats"]), "downbeats": tuple(data["downbeats"])})


def song_truth(
    score: Score, tracks: tuple[Track, ...], samples: int, asked: tuple[float, float], voice: str = ""
) -> Truth:
    """The truth of a song, or of an instrumental where nothing is sung, that lasts `samples` at 48 kHz."""
    duration = samples / RATE
    beats = _beats(score)
    return Truth(
        kind="song" if score.sung else "instrumental",
        seed=score.seed,
        renderer_version=RENDERER_VERSION,
        title=score.title,
        artist=score.artist,
        licence=LICENCE,
        duration=duration,
        samples=samples,
        asked_seconds=asked,
        style=score.style,
        text=describe(score, tracks),
        voice=voice,
        key=score.key.name,
        tempo=score.tempo,
        sections=_sections(score, duration),
        beats=beats,
        downbeats=beats[::BEATS_PER_BAR],
        chords=_chords(score),
        notes=_notes(score),
        words=_words(score),
        lyrics=_lyrics(score),
        instruments=tuple(
            InstrumentTruth(t.name, t.program, t.drums, tuple(round(s.start, 4) for s in t.strikes)) for t in tracks
        ),
    )


def speech_truth(seed: int, spoken: Spoken, samples: int, asked: tuple[float, float]) -> Truth:
    """The truth of a podcast: sentences with times, no music."""
    duration = samples / RATE
    words = tuple(WordTruth(round(start, 6), round(end, 6), text) for start, end, text in spoken.sentences)
    return Truth(
        kind="speech",
        seed=seed,
        renderer_version=RENDERER_VERSION,
        title=f"About {spoken.topic}",
        artist="Backline Radio",
        licence=LICENCE,
        duration=duration,
        samples=samples,
        asked_seconds=asked,
        style="speech",
        text="Somebody talks.",
        voice="+".join(spoken.voices),
        key="",
        tempo=0.0,
        sections=(SectionTruth(0.0, round(duration, 6), "silence"),),
        beats=(),
        downbeats=(),
        chords=(),
        notes=(),
        words=words,
        lyrics="\n".join(word.text for word in words),
        instruments=(),
    )


def _sections(score: Score, duration: float) -> tuple[SectionTruth, ...]:
    """Sections that tile [0, duration): the outro rings to the end of the file."""
    ends = [score.seconds(part.end) for part in score.parts]
    ends[-1] = duration
    starts = [0.0, *ends[:-1]]
    return tuple(
        SectionTruth(round(a, 6), round(b, 6), p.label) for a, b, p in zip(starts, ends, score.parts, strict=True)
    )


def _beats(score: Score) -> tuple[float, ...]:
    return tuple(round(score.seconds(beat), 6) for beat in range(score.beats))


def _chords(score: Score) -> tuple[ChordTruth, ...]:
    bar = score.seconds(BEATS_PER_BAR)
    chords = [chord for part in score.parts for chord in part.chords]
    return tuple(
        ChordTruth(round(i * bar, 6), round((i + 1) * bar, 6), chord.name, chord.tones)
        for i, chord in enumerate(chords)
    )


def _notes(score: Score) -> tuple[NoteTruth, ...]:
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


def _words(score: Score) -> tuple[WordTruth, ...]:
    starts: dict[int, float] = {}
    ends: dict[int, float] = {}
    for sung in score.sung:
        starts.setdefault(sung.word, score.seconds(sung.start))
        ends[sung.word] = score.seconds(sung.end)
    return tuple(WordTruth(round(starts[i], 6), round(ends[i], 6), word.text) for i, word in enumerate(score.words))


def _lyrics(score: Score) -> str:
    return "\n".join(" ".join(word.text for word in score.words[a:b]) for a, b in score.lines)
