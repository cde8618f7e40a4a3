"""Real-time factor: seconds of work per second of audio that came out (paper 5.3, table 1).

Conventions: end to end is the wall clock around the whole call, encoders and decoder included, loading and disk
excluded; generation alone is the phase ``denoise``. The paper mixes the two, so both are told. Songs go one at
a time; the summary is the median.
"""

from collections.abc import Mapping, Sequence
from statistics import median

TOTAL = "total"  # wall clock around the call
GENERATION = "denoise"


def factors(seconds: Mapping[str, float], duration: float) -> dict[str, float]:
    """Phase -> seconds of work per second of output for one song; `ValueError` for empty output."""
    if duration <= 0:
        raise ValueError(f"the output lasts {duration} s: a real-time factor needs audio")
    return {phase: spent / duration for phase, spent in seconds.items()}


def breakdown(songs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Phase -> median factor over songs; a phase that a song lacks counts as 0 there."""
    phases = dict.fromkeys(phase for song in songs for phase in song)
    return {phase: median(song.get(phase, 0.0) for song in songs) for phase in phases}
