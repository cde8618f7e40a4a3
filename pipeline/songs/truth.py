"""Truth: everything that is known about a rendered file, as `truth.json` holds it.

Conventions: times in seconds from the start of the file; intervals half-open; MIDI pitches; chords in Harte's notation.
The file holds one line of JSON a field.
"""

import json
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pipeline.songs.arranger import Track, describe
from pipeline.songs.faults import FormFault
from pipeline.songs.mixing import Mix
from pipeline.songs.podcast import Spoken
from pipeline.songs.score import RATE, Score, Sung
from pipeline.songs.singers import Singer

RENDERER_VERSION = 3
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
    level: float  # dB RMS below the loudest kind of instrument
    pan: float  # -1 left .. 1 right
    notes: tuple[tuple[float, float, int, int], ...]  # start, end, pitch (or drum key), velocity


@dataclass(frozen=True, slots=True)
class BackingTruth:
    """A background voice; its sound is in the vocal stem."""

    kind: str
    voice: str
    notes: tuple[NoteTruth, ...]


@dataclass(frozen=True, slots=True)
class TempoTruth:
    """From `start` until the next entry."""

    start: float
    tempo: float  # beats a minute


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
    tempo: float  # beats a minute, mean over the song; 0 for speech
    sections: tuple[SectionTruth, ...]
    beats: tuple[float, ...]
    downbeats: tuple[float, ...]
    chords: tuple[ChordTruth, ...]
    notes: tuple[NoteTruth, ...]
    words: tuple[WordTruth, ...]
    lyrics: str
    instruments: tuple[InstrumentTruth, ...]
    fault: FormFault = ""
    meter: int = 0  # beats a bar, 0 for speech
    shuffle: float = 0.0  # how late the middle of a beat comes, fraction of half a beat
    tempo_curve: tuple[TempoTruth, ...] = ()
    backing: tuple[BackingTruth, ...] = ()
    speech: tuple[WordTruth, ...] = ()  # sentences spoken inside a song
    singers: tuple[Singer, ...] = ()  # the lead, then the background voices
    mix: Mix | None = None  # None for speech

    def to_json(self) -> str:
        lines = (f"{json.dumps(k)}: {_json(v)}" for k, v in sorted(_fields(self).items()))
        return "{\n" + ",\n".join(lines) + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, default=_fields, ensure_ascii=False)


def _fields(record: Any) -> dict[str, Any]:
    """A dataclass as a dictionary; its fields are not copied, as `asdict` would do for each of thousands of notes."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def is_current(path: Path) -> bool:
    """Whether a `truth.json` is there and written by this version of the renderer."""
    return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["renderer_version"] == RENDERER_VERSION


def read_truth(path: Path) -> Truth:
    """Truth from a `truth.json` of this version (`is_current`)."""
    data = json.loads(path.read_text(encoding="utf-8"))
    plain = {"sections": SectionTruth, "notes": NoteTruth, "words": WordTruth, "speech": WordTruth,
             "tempo_curve": TempoTruth, "singers": Singer}  # fmt: skip
    for name, kind in plain.items():
        data[name] = tuple(kind(**item) for item in data[name])
    data["chords"] = tuple(ChordTruth(**i | {"pitch_classes": tuple(i["pitch_classes"])}) for i in data["chords"])
    data["backing"] = tuple(BackingTruth(**i | {"notes": _read_notes(i["notes"])}) for i in data["backing"])
    data["instruments"] = tuple(
        InstrumentTruth(**i | {"onsets": tuple(i["onsets"]), "notes": tuple(tuple(n) for n in i["notes"])})
        for i in data["instruments"]
    )
    data["mix"] = Mix(**data["mix"]) if data["mix"] else None
    data["asked_seconds"] = (float(data["asked_seconds"][0]), float(data["asked_seconds"][1]))
    return Truth(**data | {"beats": tuple(data["beats"]), "downbeats": tuple(data["downbeats"])})


def _read_notes(items: list[dict[str, Any]]) -> tuple[NoteTruth, ...]:
    return tuple(NoteTruth(**item) for item in items)


def song_truth(
    score: Score,
    tracks: tuple[Track, ...],
    samples: int,
    asked: tuple[float, float],
    mix: Mix,
    singers: tuple[Singer, ...] = (),
    fault: FormFault = "",
    speech: tuple[tuple[float, float, str], ...] = (),
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
        voice=singers[0].name if singers else "",
        key=score.key.name,
        tempo=score.tempo,
        sections=_sections(score, duration),
        beats=beats,
        downbeats=beats[:: score.meter],
        chords=_chords(score),
        notes=_notes(score, score.sung),
        words=_words(score),
        lyrics=_lyrics(score),
        instruments=tuple(_instrument(track) for track in tracks),
        fault=fault,
        meter=score.meter,
        shuffle=round(score.shuffle, 4),
        tempo_curve=_tempo_curve(score),
        backing=tuple(
            BackingTruth(b.kind, s.name, _notes(score, b.sung)) for b, s in zip(score.backing, singers[1:], strict=True)
        ),
        speech=tuple(WordTruth(round(a, 4), round(b, 4), text) for a, b, text in speech),
        singers=singers,
        mix=mix,
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
    chords = [chord for part in score.parts for chord in part.chords]
    bars = zip(pairwise(score.bar_times), chords, strict=True)
    return tuple(ChordTruth(round(a, 6), round(b, 6), chord.name, chord.tones) for (a, b), chord in bars)


def _instrument(track: Track) -> InstrumentTruth:
    notes = tuple((round(s.start, 4), round(s.end, 4), s.pitch, s.velocity) for s in track.strikes)
    onsets = tuple(note[0] for note in notes)
    return InstrumentTruth(
        track.name, track.program, track.drums, onsets, round(track.level, 2), round(track.pan, 3), notes
    )


def _tempo_curve(score: Score) -> tuple[TempoTruth, ...]:
    """One entry where the tempo changes by more than rounding."""
    found: list[TempoTruth] = []
    for start, end in pairwise(score.bar_times):
        tempo = round(60.0 * score.meter / (end - start), 3)
        if not found or abs(tempo - found[-1].tempo) > 2e-3:
            found.append(TempoTruth(round(start, 6), tempo))
    return tuple(found)


def _notes(score: Score, voice: tuple[Sung, ...]) -> tuple[NoteTruth, ...]:
    return tuple(
        NoteTruth(
            round(score.seconds(tone.start), 6),
            round(score.seconds(tone.start + tone.length), 6),
            tone.pitch,
            score.words[sung.word].syllables[sung.syllable],
            sung.word,
        )
        for sung in voice
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
