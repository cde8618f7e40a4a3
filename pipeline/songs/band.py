"""Band: tracks -> stereo audio through a General MIDI sound font (TimGM6mb, GPL-2) and tinysoundfont (MIT).

Conventions: 48 kHz float32 [2, samples]; the song's length is given in samples; nothing rings past it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.songs.arranger import Track
from pipeline.songs.extra import require, sound_font
from pipeline.songs.score import RATE

DRUM_BANK = 128
HEADROOM = -6.0  # dB at the synthesizer, so that single tracks stay below full scale
MAX_VOICES = 128


def play(track: Track, samples: int) -> NDArray[np.float32]:
    """One instrument, [2, samples]; the same track gives the same samples.

    Raises `BackendUnavailable` where tinysoundfont or the sound font is missing.
    """
    synth: Any = require("tinysoundfont").Synth(gain=HEADROOM, samplerate=RATE)
    font = synth.sfload(str(sound_font()), max_voices=MAX_VOICES)
    synth.program_select(0, font, DRUM_BANK if track.drums else 0, track.program, track.drums)
    out = np.zeros((samples, 2), dtype=np.float32)
    at = 0
    for time, on, pitch, velocity in _events(track):
        due = min(samples, int(time * RATE))
        if due > at:
            out[at:due] = _render(synth, due - at)
            at = due
        if on:
            synth.noteon(0, pitch, velocity)
        else:
            synth.noteoff(0, pitch)
    if at < samples:
        out[at:] = _render(synth, samples - at)
    return out.T


def _events(track: Track) -> list[tuple[float, bool, int, int]]:
    """(time, on, pitch, velocity), offs before ons at one time; a note ends where the same pitch starts again."""
    events: list[tuple[float, bool, int, int]] = []
    following: dict[int, float] = {}
    for strike in reversed(track.strikes):
        end = min(strike.end, following.get(strike.pitch, np.inf))
        following[strike.pitch] = strike.start
        events.append((strike.start, True, strike.pitch, strike.velocity))
        events.append((max(end, strike.start), False, strike.pitch, 0))
    return sorted(events)


def _render(synth: Any, samples: int) -> NDArray[np.float32]:
    return np.frombuffer(synth.generate(samples), dtype=np.float32).reshape(samples, 2)
