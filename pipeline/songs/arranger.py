"""Arranger: a score and a style become the notes that every instrument plays.

Conventions: times in seconds; velocities 1..127; one `Track` is one instrument.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.songs.score import BEATS_PER_BAR, Part, Score, stream
from pipeline.songs.styles import Drums, Instrument, Player, Style, styles, texture
from pipeline.songs.theory import Chord, nearest

STEPS = 16  # a bar
ACCENTS = {"X": 1.0, "x": 0.8, "o": 0.55}
CRASH, TOMS = 49, (50, 48, 47, 45, 43)


@dataclass(frozen=True, slots=True)
class Strike:
    """One note of one instrument."""

    start: float  # s
    end: float  # s
    pitch: int  # MIDI, or drum key
    velocity: int


@dataclass(frozen=True, slots=True)
class Track:
    """One instrument's notes and its place in the mix."""

    name: str
    program: int
    drums: bool
    level: float  # dB
    pan: float
    strikes: tuple[Strike, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """An instrument that is chosen for a song, before it has played."""

    name: str
    program: int
    level: float
    pan: float
    drums: bool = False
    strikes: list[Strike] = field(default_factory=list)

    def track(self) -> Track:
        strikes = tuple(sorted(self.strikes, key=lambda s: (s.start, s.pitch)))
        return Track(self.name, self.program, self.drums, self.level, self.pan, strikes)


class Arranger:
    """Plays one score. All choices of patterns, instruments and touch come from the score's seed."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.style: Style = styles()[score.style]
        self.rng = stream(score.seed, "band")
        self.step = score.seconds(BEATS_PER_BAR) / STEPS

    def tracks(self) -> tuple[Track, ...]:
        """One track per instrument that plays at all, drums and bass first."""
        chords = (self._player(player) for player in self.style.players)
        lines = [self._drums(self.style.drums), self._bass(), *chords, self._lead()]
        return tuple(line.track() for line in lines if line.strikes)

    def _time(self, bar: int, step: float) -> float:
        """Seconds of a sixteenth step, swung and a little human (+-5 ms)."""
        late = self.style.swing * (int(step) % 2)
        return max(0.0, (bar * STEPS + step + late) * self.step + float(self.rng.normal(0, 0.003)))

    def _touch(self, accent: float, energy: float) -> int:
        return int(np.clip((62 + 46 * energy) * accent + self.rng.normal(0, 3.5), 18, 127))

    def _choose(self, patterns: tuple[str, ...]) -> str:
        return patterns[int(self.rng.integers(len(patterns)))]

    def _one_of(self, choices: tuple[Instrument, ...]) -> Instrument:
        return choices[int(self.rng.integers(len(choices)))]

    def _hit(self, line: Line, bar: int, step: float, steps: float, pitch: int, velocity: int) -> None:
        start = self._time(bar, step)
        line.strikes.append(Strike(start, start + max(0.04, steps * self.step - 0.01), pitch, velocity))

    def _drums(self, drums: Drums) -> Line:
        line = Line(drums.name, drums.kit, drums.level, 0.0, drums=True)
        for part in self.score.parts:
            full = texture(part.energy)
            voices = (
                (36, self._choose(drums.kick[full])),
                (drums.snare_key, self._choose(drums.snare[full])),
                (drums.hats[1] if full == "full" else drums.hats[0], self._choose(drums.hat[full])),
            )
            for bar in range(part.start_bar, part.start_bar + part.bars):
                fill = bar == part.start_bar + part.bars - 1 and full != "quiet" and part.label != "outro"
                self._drum_bar(line, bar, part, voices, int(self.rng.choice([4, 8])) if fill else 0)
        return line

    def _drum_bar(self, line: Line, bar: int, part: Part, voices: tuple[tuple[int, str], ...], fill: int) -> None:
        """One bar; the last `fill` steps are played on snare and toms instead."""
        for key, pattern in voices:
            for step, mark in enumerate(pattern[: STEPS - fill]):
                if mark != ".":
                    self._hit(line, bar, step, 1, key, self._touch(ACCENTS[mark], part.energy))
        if bar == part.start_bar and part.energy >= 0.8:
            self._hit(line, bar, 0, 8, CRASH, self._touch(0.9, part.energy))
        for step in range(STEPS - fill, STEPS):
            if self.rng.random() < 0.8:
                place = (step - STEPS + fill) / max(1, fill)
                key = 38 if self.rng.random() < 0.3 else TOMS[int(place * len(TOMS))]
                self._hit(line, bar, step, 1, key, self._touch(0.6 + 0.35 * place, part.energy))

    def _bass(self) -> Line:
        chosen = self._one_of(self.style.bass)
        line = Line(chosen.name, chosen.program, -2.0, 0.0)
        for part in self.score.parts:
            pattern = self._choose(self.style.bass_patterns[texture(part.energy)])
            for index, chord in enumerate(part.chords):
                bar = part.start_bar + index
                last = bar == self.score.bars - 1
                following = self.score.chord_at((bar + 1) * BEATS_PER_BAR) if not last else chord
                self._bass_bar(line, bar, chord, following, "R" + "-" * 15 if last else pattern, part.energy)
        return line

    def _bass_bar(self, line: Line, bar: int, chord: Chord, following: Chord, pattern: str, energy: float) -> None:
        root = nearest(chord.root, 34)
        pitches = {
            "R": root,
            "F": nearest(chord.tones[2], root + 4),
            "O": root + 12,
            "T": nearest(chord.tones[1], root + 4),
            "A": self._approach(nearest(following.root, 34)),
        }
        for step, mark in enumerate(pattern):
            if mark in pitches:
                held = len(pattern[step + 1 :]) - len(pattern[step + 1 :].lstrip("-"))
                accent = 1.0 if step % 4 == 0 else 0.85
                self._hit(line, bar, step, 1 + held, pitches[mark], self._touch(accent, energy))

    def _approach(self, target: int) -> int:
        """The scale note just below the next root."""
        return next(p for p in range(target - 1, target - 4, -1) if p % 12 in self.score.key.scale)

    def _player(self, player: Player) -> Line:
        chosen = self._one_of(player.choices)
        side = player.pan * float(self.rng.choice([-1.0, 1.0]))
        line = Line(chosen.name, chosen.program, player.level + float(self.rng.uniform(-1.5, 1.5)), side)
        patterns = {part.label: self._choose(player.patterns) for part in self.score.parts}
        for part in (part for part in self.score.parts if part.energy >= player.enters):
            centre = 58 + 12 * player.octave
            for index, chord in enumerate(part.chords):
                voicing = _voicing(chord, centre)
                centre = round(0.7 * float(np.mean(voicing)) + 0.3 * (58 + 12 * player.octave))
                bar = part.start_bar + index
                if bar == self.score.bars - 1:
                    self._strum(line, bar, 0, 15, voicing, part.energy)
                else:
                    self._comp(line, player, bar, patterns[part.label], voicing, part.energy)
        return line

    def _comp(
        self, line: Line, player: Player, bar: int, pattern: str, voicing: tuple[int, ...], energy: float
    ) -> None:
        if player.comping == "pad":
            for pitch in voicing:
                self._hit(line, bar, 0, STEPS, pitch, self._touch(0.75, energy))
            return
        steps = [step for step, mark in enumerate(pattern) if mark != "."]
        rolling = (*voicing, *(voicing[0] + 12,), *reversed(voicing[1:]))
        for index, step in enumerate(steps):
            following = steps[index + 1] if index + 1 < len(steps) else STEPS
            accent = ACCENTS[pattern[step]]
            if player.comping == "arpeggio":
                length = min(4.0, STEPS - step)
                self._hit(line, bar, step, length, rolling[index % len(rolling)], self._touch(accent * 0.9, energy))
            elif player.comping == "stab":
                self._chord(line, bar, step, 1.4, voicing, accent, energy, 0.0)
            elif player.comping == "strum":
                notes = voicing if step % 4 == 0 else tuple(reversed(voicing))
                self._chord(
                    line, bar, step, following - step, notes, accent * (1.0 if step % 4 == 0 else 0.85), energy, 0.012
                )
            else:
                self._chord(line, bar, step, following - step, voicing, accent, energy, 0.0)

    def _chord(
        self,
        line: Line,
        bar: int,
        step: float,
        steps: float,
        voicing: tuple[int, ...],
        accent: float,
        energy: float,
        spread: float,
    ) -> None:
        """All notes of a chord, `spread` seconds between neighbours."""
        first = len(line.strikes)
        for pitch in voicing:
            self._hit(line, bar, step, steps, pitch, self._touch(accent * 0.9, energy))
        start = line.strikes[first].start
        for index in range(first, len(line.strikes)):
            strike = line.strikes[index]
            onset = start + (index - first) * spread
            line.strikes[index] = replace(strike, start=onset, end=max(strike.end, onset + 0.05))

    def _strum(self, line: Line, bar: int, step: float, steps: float, voicing: tuple[int, ...], energy: float) -> None:
        self._chord(line, bar, step, steps, voicing, 0.9, energy, 0.015)

    def _lead(self) -> Line:
        chosen = self._one_of(self.style.lead)
        line = Line(chosen.name, chosen.program, -3.0, float(self.rng.uniform(-0.2, 0.2)))
        quiet_intro = self.rng.random() < 0.4
        for tone in self.score.solo:
            part = self.score.part_at(tone.start)
            if part.label == "inst" or (not quiet_intro and part.bars > 1):
                bar, beat = divmod(tone.start, BEATS_PER_BAR)
                velocity = self._touch(0.9, max(0.6, part.energy))
                self._hit(line, int(bar), beat * 4, tone.length * 4, tone.pitch, velocity)
        return line


def _voicing(chord: Chord, centre: int) -> tuple[int, ...]:
    """The chord's notes in close position around `centre`, so that chords move by small steps."""
    return tuple(sorted({nearest(tone, centre) for tone in chord.tones}))


def describe(score: Score, tracks: tuple[Track, ...]) -> str:
    """One sentence on style, instruments and mood: no singer, tempo or key words."""
    style = styles()[score.style]
    rng = stream(score.seed, "text")
    mood = style.moods[int(rng.integers(len(style.moods)))]
    genre = style.words[int(rng.integers(len(style.words)))]
    names = list(dict.fromkeys(track.name for track in tracks))
    article = "An" if mood[0] in "aeiou" else "A"
    return f"{article} {mood} {genre} song with {', '.join(names[:-1])} and {names[-1]}."
