"""Styles: who plays what, how it grooves, how it is described in words.

The styles themselves are in `styles.yaml` and `styles_more.yaml`.
Conventions: patterns are strings of sixteenth steps, 16 a bar in 4/4 and 12 in 3/4: ``X`` accent, ``x`` normal, ``o``
soft, ``.`` rest. Bass patterns name notes: ``R`` root, ``T`` third, ``F`` fifth, ``O`` octave, ``A`` a step below the
next root; ``-`` holds. Programs are General MIDI numbers from 0. Levels are dB RMS relative to 0 for the loudest; pan
is -1 (left) .. 1 (right).
"""

from collections import ChainMap
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from pipeline.config import Config

FILES = ("styles.yaml", "styles_more.yaml")
Comping = Literal["block", "strum", "arpeggio", "stab", "pad"]
Texture = Literal["quiet", "half", "full"]
Pattern = Annotated[str, StringConstraints(pattern=r"^[Xxo.]{12}([Xxo.]{4})?$")]
BassPattern = Annotated[str, StringConstraints(pattern=r"^[RTFOA.-]{12}([RTFOA.-]{4})?$")]
Program = Annotated[int, Field(ge=0, le=127)]


class Instrument(Config):
    """A General MIDI program and what the text calls it."""

    program: Program
    name: str


class Player(Config):
    """One part that plays chords, on one of several instruments."""

    comping: Comping
    choices: tuple[Instrument, ...]
    patterns: tuple[Pattern, ...] = ()  # a pad needs none
    level: float  # dB
    pan: float
    enters: float = 0.0  # plays where the section's energy (0..1) is at least this
    octave: int = 0  # above the chord players' middle


class Drums(Config):
    """Kick, snare and cymbal patterns by how full the section is."""

    kit: Program  # of the drum bank
    name: str
    kick: dict[Texture, tuple[Pattern, ...]]
    snare: dict[Texture, tuple[Pattern, ...]]
    hat: dict[Texture, tuple[Pattern, ...]]
    hats: tuple[int, int]  # drum keys of the cymbal: in quiet and half-full sections, in full ones
    snare_key: int
    level: float  # dB


class Percussion(Config):
    """A drum key that some songs of a style add."""

    key: Annotated[int, Field(ge=27, le=87)]
    name: str
    patterns: tuple[Pattern, ...]


class Style(Config):
    """One style."""

    tempo: tuple[float, float]  # beats a minute
    minor: float  # probability of a minor key
    sevenths: bool
    swing: float  # how late every second sixteenth comes, fraction of a sixteenth
    shuffle: float = 0.0  # how late the middle of a beat comes, fraction of half a beat; 1/3 makes triplets
    meter: Literal[3, 4] = 4  # beats a bar
    blues: float = 0.0  # probability of twelve-bar verses
    reverb: tuple[float, float]  # s, wet share 0..1
    moods: tuple[str, ...]
    words: tuple[str, ...]  # names of the genre
    drums: Drums
    bass: tuple[Instrument, ...]
    bass_patterns: dict[Texture, tuple[BassPattern, ...]]
    lead: tuple[Instrument, ...]
    players: tuple[Player, ...]
    percussion: tuple[Percussion, ...] = ()

    @model_validator(mode="after")
    def _bars_are_full(self) -> Self:
        lengths = {len(pattern) for pattern in self._patterns()}
        if lengths - {4 * self.meter}:
            raise ValueError(f"patterns of {sorted(lengths)} steps in a meter of {self.meter}: give {4 * self.meter}")
        return self

    def _patterns(self) -> Iterator[str]:
        tables = (self.drums.kick, self.drums.snare, self.drums.hat, self.bass_patterns)
        yield from (pattern for table in tables for patterns in table.values() for pattern in patterns)
        yield from (pattern for player in self.players for pattern in player.patterns)
        yield from (pattern for item in self.percussion for pattern in item.patterns)


@cache
def styles() -> dict[str, Style]:
    """All styles by name."""
    texts = [files("pipeline.songs").joinpath(name).read_text(encoding="utf-8") for name in FILES]
    return TypeAdapter(dict[str, Style]).validate_python(dict(ChainMap(*(yaml.safe_load(text) for text in texts))))


def texture(energy: float) -> Texture:
    """How full a section of this energy (0..1) is played."""
    return "quiet" if energy < 0.45 else "half" if energy < 0.8 else "full"
