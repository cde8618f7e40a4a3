"""Arranger: a score and a style become the notes that every instrument plays.

Conventions: times in seconds; velocities 1..127; one `Track` is one instrument.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from pipeline.songs.score import Part, Score, stream
from pipeline.songs.styles import Drums, Instrument, Player, Style, styles, texture
from pipeline.songs.theory import Chord, nearest

PLAYER_SHARE = 0.85  # of the style's chord players are in a song's band; this and the next: ours
BREAK_SHARE = 0.15  # of the choruses come after a rest of the whole band
SILENT_INTRO_SHARE = 0.2  # of the songs start without drums
PERCUSSION_SHARE = 0.6  # of the songs whose style has percussion use it
BASS_CENTRE = 34  # MIDI
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
    late: float = 0.0  # s behind the beat
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
        self.steps = 4 * score.meter
        self.looseness = float(self.rng.uniform(0.001, 0.007))  # s, standard deviation of an onset; ours
        self.accuracy = float(self.rng.uniform(2.0, 7.0))  # of velocities
        self.breaks = self._plan_breaks()

    def tracks(self) -> tuple[Track, ...]:
        """One track per instrument that plays at all, drums and bass first."""
        optional = [player for player in self.style.players if self.rng.random() < PLAYER_SHARE]
        players = optional or list(self.style.players[:1])
        chords = [self._player(player) for player in players]
        lines = [self._drums(self.style.drums), self._bass(), *chords, self._lead(), *self._percussion()]
        return tuple(line.track() for line in lines if line.strikes)

    def _plan_breaks(self) -> frozenset[tuple[int, int]]:
        """(bar, step) from which the band rests until the next section starts: before some choruses."""
        found = set[tuple[int, int]]()
        for part, following in pairwise(self.score.parts):
            if following.label == "chorus" and part.sung and self.rng.random() < BREAK_SHARE:
                found.add((following.start_bar - 1, self.steps - int(self.rng.choice([2, 4, 8]))))
        return frozenset(found)

    def _time(self, bar: int, step: float, late: float) -> float:
        """Seconds of a sixteenth step, swung and a little human."""
        swung = step + self.style.swing * (int(step) % 2)
        exact = self.score.seconds((bar * self.steps + swung) / 4)
        return max(0.0, exact + late + float(self.rng.normal(0, self.looseness)))

    def _touch(self, accent: float, energy: float) -> int:
        return int(np.clip((62 + 46 * energy) * accent + self.rng.normal(0, self.accuracy), 18, 127))

    def _choose(self, patterns: tuple[str, ...]) -> str:
        return patterns[int(self.rng.integers(len(patterns)))]

    def _one_of(self, choices: tuple[Instrument, ...]) -> Instrument:
        return choices[int(self.rng.integers(len(choices)))]

    def _feel(self) -> float:
        """How far one player lies behind the beat or ahead of it, in seconds."""
        return float(np.clip(self.rng.normal(0, 0.004), -0.01, 0.01))

    def _hit(self, line: Line, bar: int, step: float, steps: float, pitch: int, velocity: int) -> None:
        if any(bar == at and step >= first for at, first in self.breaks):
            return
        start = self._time(bar, step, line.late)
        end = self.score.seconds((bar * self.steps + step + steps) / 4) + line.late - 0.01
        line.strikes.append(Strike(start, max(start + 0.04, end), pitch, velocity))

    def _drums(self, drums: Drums) -> Line:
        line = Line(drums.name, drums.kit, drums.level + float(self.rng.uniform(-2.0, 1.5)), 0.0, drums=True)
        grooves: dict[tuple[str, str], tuple[tuple[int, str], ...]] = {}
        silent_intro = self.rng.random() < SILENT_INTRO_SHARE
        for index, part in enumerate(self.score.parts):
            full = texture(part.energy)
            if (part.label, full) not in grooves:
                grooves[part.label, full] = (
                    (36, self._choose(drums.kick[full])),
                    (drums.snare_key, self._choose(drums.snare[full])),
                    (drums.hats[1] if full == "full" else drums.hats[0], self._choose(drums.hat[full])),
                )
            if index == 0 and silent_intro:
                continue
            for bar in range(part.start_bar, part.start_bar + part.bars):
                ends = bar == part.start_bar + part.bars - 1 and full != "quiet" and part.label != "outro"
                inside = (bar - part.start_bar) % 4 == 3 and full == "full" and self.rng.random() < 0.3
                fill = int(self.rng.choice([2, 4, 8])) if inside or (ends and self.rng.random() < 0.85) else 0
                self._drum_bar(line, bar, part, grooves[part.label, full], fill)
        return line

    def _drum_bar(self, line: Line, bar: int, part: Part, voices: tuple[tuple[int, str], ...], fill: int) -> None:
        """One bar; the last `fill` steps are played as a fill instead."""
        energy = part.energy_at(bar)
        for key, pattern in voices:
            for step, mark in enumerate(pattern[: self.steps - fill]):
                if mark != "." and not (mark == "o" and self.rng.random() < 0.1):
                    self._hit(line, bar, step, 1, key, self._touch(ACCENTS[mark], energy))
        if bar == part.start_bar and part.energy >= 0.8:
            self._hit(line, bar, 0, 8, CRASH, self._touch(0.9, energy))
        if fill:
            self._fill(line, bar, fill, energy)

    def _fill(self, line: Line, bar: int, fill: int, energy: float) -> None:
        """Toms downwards, a roll on the snare, or kick and snare in turn; louder towards the end."""
        kind = int(self.rng.integers(3))
        for step in range(self.steps - fill, self.steps):
            place = (step - self.steps + fill) / fill
            if self.rng.random() < (0.9 if kind == 1 else 0.75):
                tom = TOMS[int(place * len(TOMS))]
                snare = self.style.drums.snare_key
                key = (38 if self.rng.random() < 0.3 else tom, snare, 36 if step % 2 else snare)[kind]
                self._hit(line, bar, step, 1, key, self._touch(0.6 + 0.35 * place, energy))

    def _percussion(self) -> list[Line]:
        """At most one extra drum key, from half-full sections on."""
        choices = self.style.percussion
        if not choices or self.rng.random() > PERCUSSION_SHARE:
            return []
        chosen = choices[int(self.rng.integers(len(choices)))]
        place = float(self.rng.uniform(-0.6, 0.6))
        line = Line(chosen.name, 0, -10 + float(self.rng.uniform(-2, 2)), place, drums=True, late=self._feel())
        pattern = self._choose(chosen.patterns)
        enters = float(self.rng.choice([0.3, 0.5, 0.8]))
        for part in (part for part in self.score.parts if part.energy >= enters and not part.spoken):
            for bar in range(part.start_bar, part.start_bar + part.bars):
                for step, mark in enumerate(pattern):
                    if mark != ".":
                        self._hit(line, bar, step, 1, chosen.key, self._touch(ACCENTS[mark], part.energy_at(bar)))
        return [line]

    def _bass(self) -> Line:
        chosen = self._one_of(self.style.bass)
        line = Line(chosen.name, chosen.program, float(self.rng.uniform(-4.0, -1.0)), 0.0, late=self._feel())
        grooves: dict[tuple[str, str], str] = {}
        for part in self.score.parts:
            full = texture(part.energy)
            pattern = grooves.setdefault((part.label, full), self._choose(self.style.bass_patterns[full]))
            for index, chord in enumerate(part.chords):
                bar = part.start_bar + index
                last = bar == self.score.bars - 1
                following = self.score.chord_at((bar + 1) * self.score.meter) if not last else chord
                held = "R" + "-" * (self.steps - 1)
                self._bass_bar(line, bar, chord, following, held if last else pattern, part.energy_at(bar))
        return line

    def _bass_bar(self, line: Line, bar: int, chord: Chord, following: Chord, pattern: str, energy: float) -> None:
        root = nearest(chord.root, BASS_CENTRE)
        pitches = {
            "R": root,
            "F": nearest(chord.tones[2], root + 4),
            "O": root + 12,
            "T": nearest(chord.tones[1], root + 4),
            "A": self._approach(nearest(following.root, BASS_CENTRE)),
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
        side = player.pan * float(self.rng.choice([-1.0, 1.0])) * float(self.rng.uniform(0.6, 1.4))
        level = player.level + float(self.rng.uniform(-2.5, 2.5))
        line = Line(chosen.name, chosen.program, level, float(np.clip(side, -0.9, 0.9)), late=self._feel())
        labels = sorted({part.label for part in self.score.parts})
        patterns = {label: self._choose(player.patterns or ("X" + "." * (self.steps - 1),)) for label in labels}
        enters = player.enters + float(self.rng.uniform(-0.15, 0.1)) * (player.enters > 0)
        for part in (part for part in self.score.parts if part.energy >= min(enters, 0.84)):
            centre = 58 + 12 * player.octave
            for index, chord in enumerate(part.chords):
                voicing = _voicing(chord, centre)
                centre = round(0.7 * float(np.mean(voicing)) + 0.3 * (58 + 12 * player.octave))
                bar = part.start_bar + index
                if bar == self.score.bars - 1:
                    self._strum(line, bar, 0, self.steps - 1, voicing, part.energy_at(bar))
                else:
                    self._comp(line, player, bar, patterns[part.label], voicing, part.energy_at(bar))
        return line

    def _comp(
        self, line: Line, player: Player, bar: int, pattern: str, voicing: tuple[int, ...], energy: float
    ) -> None:
        if player.comping == "pad":
            for pitch in voicing:
                self._hit(line, bar, 0, self.steps, pitch, self._touch(0.75, energy))
            return
        steps = [step for step, mark in enumerate(pattern) if mark != "."]
        rolling = (*voicing, *(voicing[0] + 12,), *reversed(voicing[1:]))
        for index, step in enumerate(steps):
            following = steps[index + 1] if index + 1 < len(steps) else self.steps
            accent = ACCENTS[pattern[step]]
            if player.comping == "arpeggio":
                length = min(4.0, self.steps - step)
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
        if len(line.strikes) == first:  # inside a break
            return
        start = line.strikes[first].start
        for index in range(first, len(line.strikes)):
            strike = line.strikes[index]
            onset = start + (index - first) * spread
            line.strikes[index] = replace(strike, start=onset, end=max(strike.end, onset + 0.05))

    def _strum(self, line: Line, bar: int, step: float, steps: float, voicing: tuple[int, ...], energy: float) -> None:
        self._chord(line, bar, step, steps, voicing, 0.9, energy, 0.015)

    def _lead(self) -> Line:
        chosen = self._one_of(self.style.lead)
        level, side = float(self.rng.uniform(-5.0, -1.0)), float(self.rng.uniform(-0.3, 0.3))
        line = Line(chosen.name, chosen.program, level, side, late=self._feel())
        quiet_intro = self.rng.random() < 0.4
        for tone in self.score.solo:
            part = self.score.part_at(tone.start)
            if part.label == "inst" or (not quiet_intro and part.bars > 1):
                bar, beat = divmod(tone.start, self.score.meter)
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
