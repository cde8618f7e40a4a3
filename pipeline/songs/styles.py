"""Styles: who plays what, how it grooves, how it is described in words.

The styles themselves are in `styles.yaml`.
Conventions: patterns are strings of 16 sixteenth steps a bar: ``X`` accent, ``x`` normal, ``o`` soft, ``.`` rest.
Bass patterns name notes: ``R`` root, ``T`` third, ``F`` fifth, ``O`` octave, ``A`` a step below the next root; ``-``
holds. Programs are General MIDI numbers from 0. Levels are dB RMS relative to 0 for the loudest; pan is -1 (left) ..
1 (right).
"""

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints, TypeAdapter

from pipeline.config import Config

Comping = Literal["block", "strum", "arpeggio", "stab", "pad"]
Texture = Literal["quiet", "half", "full"]
Pattern = Annotated[str, StringConstraints(pattern=r"^[Xxo.]{16}$")]
BassPattern = Annotated[str, StringConstraints(pattern=r"^[RTFOA.-]{16}$")]
Program = Annotated[int, Field(ge=0, le=127)]


class Instrument(Config):
    """A General MIDI program and what the text calls it."""

    program: Program
    name: str


class Player(Config):
    """One part that plays chords, on one of several instruments."""

    comping: Comping
    choices: tuple[Instrument, ...]
    patterns: tuple[Pattern, ...] = ("X...............",)
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


class Style(Config):
    """One style."""

    tempo: tuple[float, float]  # beats a minute
    minor: float  # probability of a minor key
    sevenths: bool
    swing: float  # how late every second sixteenth comes, fraction of a sixteenth
    reverb: tuple[float, float]  # s, wet share 0..1
    moods: tuple[str, ...]
    words: tuple[str, ...]  # names of the genre
    drums: Drums
    bass: tuple[Instrument, ...]
    bass_patterns: dict[Texture, tuple[BassPattern, ...]]
    lead: tuple[Instrument, ...]
    players: tuple[Player, ...]


@cache
def styles() -> dict[str, Style]:
    """All styles by name."""
    text = files("pipeline.songs").joinpath("styles.yaml").read_text(encoding="utf-8")
    return TypeAdapter(dict[str, Style]).validate_python(yaml.safe_load(text))


def texture(energy: float) -> Texture:
    """How full a section of this energy (0..1) is played."""
    return "quiet" if energy < 0.45 else "half" if energy < 0.8 else "full"
