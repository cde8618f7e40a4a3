"""Composer: a seed becomes a score, the same one every time."""

import numpy as np

from pipeline.songs.form import plan_form, plan_frame, plan_parts
from pipeline.songs.lyrics import Lyricist, Phrase, bank
from pipeline.songs.melody import ChordAt, Register, decorated, pitches, rhythm
from pipeline.songs.score import BEATS_PER_BAR, Part, Score, Sung, Tone, Word, stream
from pipeline.songs.styles import styles
from pipeline.songs.theory import Key
from pipeline.types import Label

SOLO_BARS = 2
FAST = 118.0  # beats a minute: from here a line lasts four bars, else it would have too few syllables
SYLLABLES_PER_SECOND: dict[Label, float] = {"verse": 1.9, "pre-chorus": 2.0, "chorus": 1.6, "bridge": 1.5}  # ours
HIGHEST_RISE: dict[Label, float] = {"verse": 0.0, "pre-chorus": 1.5, "chorus": 3.5, "bridge": 2.0}  # semitones, ours
TITLE_WORDS = 4


def compose(seed: int, seconds: tuple[float, float], voice_range: tuple[int, int], sung: bool = True) -> Score:
    """A song of `seconds` (low, high), its melody inside `voice_range` (MIDI); `sung=False` leaves the words out.

    Raises `ValueError` where `seconds` is shorter than the shortest form.
    """
    rng = stream(seed, "form")
    names = sorted(styles())
    style = names[int(rng.integers(len(names)))]
    spec = styles()[style]
    key = Key(int(rng.integers(12)), "minor" if rng.random() < spec.minor else "major")
    frame = plan_frame(rng, spec.tempo, seconds)
    parts = plan_parts(rng, plan_form(rng, frame.bars), key, spec.sevenths)
    writer = _Writer(seed, key, frame.tempo, parts, voice_range)
    if sung:
        for part in parts:
            writer.sing(part)
    title = (
        " ".join(word.text for word in writer.words[: min(TITLE_WORDS, len(writer.words))]).title() or f"Study {seed}"
    )
    bands = bank().bands
    artist = bands[int(stream(seed, "artist").integers(len(bands)))]
    return Score(
        seed, title, artist, style, key, frame.tempo, parts,
        tuple(writer.words), tuple(writer.lines), tuple(writer.sung), writer.solo(),
    )  # fmt: skip


class _Writer:
    """Writes melody and words part by part; a chorus repeats word for word, verses share their tune."""

    def __init__(
        self, seed: int, key: Key, tempo: float, parts: tuple[Part, ...], voice_range: tuple[int, int]
    ) -> None:
        self.rng = stream(seed, "melody")
        self.lyricist = Lyricist(stream(seed, "lyrics"))
        self.key, self.tempo, self.parts = key, tempo, parts
        low, high = voice_range
        self.range = (low, high)
        self.grid = 0.5  # beats, the shortest note
        self.line_bars = 4 if tempo >= FAST else 2
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
        register = self._register(HIGHEST_RISE[part.label])
        whole = BEATS_PER_BAR * self.line_bars
        lines: list[list[Tone]] = []
        for index, bar in enumerate(range(0, part.bars, self.line_bars)):
            beats = BEATS_PER_BAR * min(self.line_bars, part.bars - bar)
            if index >= 2 and beats == whole:
                timing = [(tone.start + 2 * whole, tone.length) for tone in lines[index - 2]]
            else:
                fresh = rhythm(self.rng, self._notes(part.label, beats), beats, self.grid)
                timing = [(start + bar * BEATS_PER_BAR, length) for start, length in fresh]
            lines.append(pitches(self.rng, timing, self.key, _chord_in(part), register))
        return lines

    def _notes(self, label: Label, beats: int) -> int:
        wish = beats * 60.0 / self.tempo * SYLLABLES_PER_SECOND[label] * float(self.rng.uniform(0.85, 1.15))
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
            effort = part.energy * (0.85 + 0.15 * float(tone.start % 4 < 0.01))
            self.sung.append(Sung(word, syllable, notes, index == 0, effort))

    def solo(self) -> tuple[Tone, ...]:
        """A wordless melody for the sections where nobody sings."""
        tones: list[Tone] = []
        register = Register(67, 86, 75.0)
        for part in (part for part in self.parts if not part.sung):
            for bar in range(0, part.bars, SOLO_BARS):
                beats = BEATS_PER_BAR * min(SOLO_BARS, part.bars - bar)
                count = int(self.rng.integers(beats // 2, beats + 1)) if part.label == "inst" else beats // 2
                timing = [
                    (start + bar * BEATS_PER_BAR, length) for start, length in rhythm(self.rng, count, beats, self.grid)
                ]
                line = pitches(self.rng, timing, self.key, _chord_in(part), register)
                tones += [Tone(tone.start + part.start, tone.length, tone.pitch) for tone in line]
        return tuple(tones)


def _chord_in(part: Part) -> ChordAt:
    """The chord at a beat that is counted from the start of the part."""
    return lambda beat: part.chords[int(beat) // BEATS_PER_BAR]
