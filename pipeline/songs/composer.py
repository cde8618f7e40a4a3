"""Composer: a seed becomes a score, the same one every time."""

from dataclasses import replace

import numpy as np

from pipeline.songs.faults import FormFault
from pipeline.songs.form import Harmonics, plan_form, plan_frame, plan_parts, with_fault
from pipeline.songs.harmony import backing_voices
from pipeline.songs.lyrics import Lyricist, Phrase, bank
from pipeline.songs.melody import ChordAt, Register, decorated, pitches, rhythm
from pipeline.songs.score import Part, Score, Sung, Tone, Word, stream
from pipeline.songs.styles import Style, styles
from pipeline.songs.tempo import bar_times
from pipeline.songs.theory import Key
from pipeline.types import Label

SOLO_BARS = 2
FAST = 118.0  # beats a minute: from here a line lasts four bars, else it would have too few syllables
SYLLABLES_PER_SECOND: dict[Label, float] = {"verse": 1.9, "pre-chorus": 2.0, "chorus": 1.6, "bridge": 1.5}  # ours
HIGHEST_RISE: dict[Label, float] = {"verse": 0.0, "pre-chorus": 1.5, "chorus": 3.5, "bridge": 2.0}  # semitones, ours
TITLE_WORDS = 4


def compose(
    seed: int,
    seconds: tuple[float, float],
    voice_range: tuple[int, int],
    sung: bool = True,
    fault: FormFault = "",
) -> Score:
    """A song of `seconds` (low, high), its melody inside `voice_range` (MIDI); `sung=False` leaves the words out.

    A song with a form fault lasts longer (`form.with_fault`). Raises `ValueError` where `seconds` is shorter than the
    shortest form.
    """
    rng = stream(seed, "form")
    names = sorted(styles())
    style = names[int(rng.integers(len(names)))]
    spec = styles()[style]
    key = Key(int(rng.integers(12)), "minor" if rng.random() < spec.minor else "major")
    frame = plan_frame(rng, spec.tempo, seconds, spec.meter)
    plan, spoken = with_fault(rng, plan_form(rng, frame.bars, fault), fault, spec.meter * 60.0 / frame.tempo)
    parts = plan_parts(rng, plan, key, _harmonics(rng, spec), spec.meter, spoken)
    writer = _Writer(seed, key, frame.tempo, parts, voice_range)
    for part in parts if sung else ():
        writer.sing(part)
    score = Score(
        seed, _title(seed, writer), _artist(seed), style, key, frame.tempo, parts,
        tuple(writer.words), tuple(writer.lines), tuple(writer.sung), writer.solo(),
        spec.meter, bar_times(stream(seed, "tempo"), parts, frame.tempo), _shuffle(stream(seed, "shuffle"), spec),
    )  # fmt: skip
    return replace(score, backing=backing_voices(stream(seed, "harmony"), score))


def _harmonics(rng: np.random.Generator, spec: Style) -> Harmonics:
    seventh = rng.random() < (0.85 if spec.sevenths else 0.1)
    colour = str(rng.choice(["", "sus4", "ninth", "sixth"], p=[0.45, 0.2, 0.2, 0.15]))
    return Harmonics(seventh, colour, float(rng.uniform(0.15, 0.6)), rng.random() < spec.blues)


def _shuffle(rng: np.random.Generator, spec: Style) -> float:
    return float(spec.shuffle * rng.uniform(0.8, 1.1))


def _title(seed: int, writer: "_Writer") -> str:
    return " ".join(word.text for word in writer.words[:TITLE_WORDS]).title() or f"Study {seed}"


def _artist(seed: int) -> str:
    bands = bank().bands
    return bands[int(stream(seed, "artist").integers(len(bands)))]


class _Writer:
    """Writes melody and words part by part; a chorus repeats word for word, verses share their tune."""

    def __init__(
        self, seed: int, key: Key, tempo: float, parts: tuple[Part, ...], voice_range: tuple[int, int]
    ) -> None:
        self.rng = stream(seed, "melody")
        self.lyricist = Lyricist(stream(seed, "lyrics"))
        self.key, self.tempo, self.parts = key, tempo, parts
        self.range = voice_range
        self.meter = parts[0].meter
        self.density = float(self.rng.uniform(0.85, 1.25))
        self.rise = float(self.rng.uniform(0.6, 1.3))
        self.grid = 0.5  # beats, the shortest note
        self.line_bars = 4 if tempo / self.meter >= FAST / 4 else 2
        self.tunes: dict[Label, list[list[Tone]]] = {}
        self.verses: dict[Label, list[Phrase]] = {}
        self.words: list[Word] = []
        self.lines: list[tuple[int, int]] = []
        self.sung: list[Sung] = []

    def sing(self, part: Part) -> None:
        """Add one section; instrumental ones stay silent."""
        if not part.sung:
            return
        if part.label not in self.tunes:
            self.tunes[part.label] = self._tune(part)
        tune = self.tunes[part.label]
        if part.label != "chorus" or part.label not in self.verses:
            self.verses[part.label] = self.lyricist.verse([len(line) for line in tune])
        for tones, phrase in zip(tune, self.verses[part.label], strict=True):
            self._line(part, tones, phrase)

    def _tune(self, part: Part) -> list[list[Tone]]:
        """Lines of melody, positions from the start of the part; line 3 has the rhythm of line 1, line 4 of line 2."""
        register = self._register(self.rise * HIGHEST_RISE[part.label])
        whole = self.meter * self.line_bars
        lines: list[list[Tone]] = []
        for index, bar in enumerate(range(0, part.bars, self.line_bars)):
            beats = self.meter * min(self.line_bars, part.bars - bar)
            if index >= 2 and beats == whole:
                timing = [(tone.start + 2 * whole, tone.length) for tone in lines[index - 2]]
            else:
                fresh = rhythm(self.rng, self._notes(part.label, beats), beats, self.grid)
                timing = [(start + bar * self.meter, length) for start, length in fresh]
            lines.append(pitches(self.rng, timing, self.key, _chord_in(part), register))
        return lines

    def _notes(self, label: Label, beats: int) -> int:
        wish = (
            beats * 60.0 / self.tempo * SYLLABLES_PER_SECOND[label] * self.density * float(self.rng.uniform(0.85, 1.15))
        )
        return int(np.clip(round(wish), 3, min(12, beats / self.grid - 3)))

    def _register(self, rise: float) -> Register:
        low, high = self.range
        return Register(low, high, low + 0.33 * (high - low) + rise)

    def _line(self, part: Part, tones: list[Tone], phrase: Phrase) -> None:
        """One sung line: syllable i on note i; the last may get two notes."""
        register = self._register(0.0)
        first = len(self.words)
        self.words += phrase.words
        self.lines.append((first, len(self.words)))
        slots = [(first + w, s) for w, word in enumerate(phrase.words) for s in range(len(word.syllables))]
        for index, ((word, syllable), tone) in enumerate(zip(slots, tones, strict=True)):
            moved = Tone(tone.start + part.start, tone.length, tone.pitch)
            final = index == len(slots) - 1
            notes = decorated(self.rng, moved, self.key, register) if final else (moved,)
            effort = part.energy_at(part.start_bar + int(tone.start) // self.meter) * (
                0.85 + 0.15 * float(tone.start % self.meter < 0.01)
            )
            self.sung.append(Sung(word, syllable, notes, index == 0, effort))

    def solo(self) -> tuple[Tone, ...]:
        """A wordless melody for the sections where nobody sings."""
        tones: list[Tone] = []
        register = Register(67, 86, 75.0)
        for part in (part for part in self.parts if not part.sung and not part.spoken):
            for bar in range(0, part.bars, SOLO_BARS):
                beats = self.meter * min(SOLO_BARS, part.bars - bar)
                count = int(self.rng.integers(beats // 2, beats + 1)) if part.label == "inst" else max(2, beats // 2)
                timing = [
                    (start + bar * self.meter, length) for start, length in rhythm(self.rng, count, beats, self.grid)
                ]
                line = pitches(self.rng, timing, self.key, _chord_in(part), register)
                tones += [Tone(tone.start + part.start, tone.length, tone.pitch) for tone in line]
        return tuple(tones)


def _chord_in(part: Part) -> ChordAt:
    """The chord at a beat that is counted from the start of the part."""
    return lambda beat: part.chords[int(beat) // part.meter]
