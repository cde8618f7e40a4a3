"""Instruments by family: General MIDI programs -> one word that a listener would use.

Conventions: programs count from 0; what General MIDI calls effects and odd percussion is "" (no word).
"""

from collections.abc import Sequence

DRUMS = "drums"
_RANGES = (
    (0, 3, "piano"),
    (4, 5, "electric piano"),
    (6, 7, "clavinet"),
    (8, 14, "bells"),
    (15, 15, "dulcimer"),
    (16, 20, "organ"),
    (21, 21, "accordion"),
    (22, 22, "harmonica"),
    (23, 23, "accordion"),
    (24, 25, "acoustic guitar"),
    (26, 28, "electric guitar"),
    (29, 31, "distorted guitar"),
    (32, 32, "upright bass"),
    (33, 37, "electric bass"),
    (38, 39, "synth bass"),
    (40, 45, "strings"),
    (46, 46, "harp"),
    (47, 47, ""),
    (48, 51, "strings"),
    (52, 55, ""),
    (56, 63, "brass"),
    (64, 67, "saxophone"),
    (68, 79, "woodwinds"),
    (80, 87, "synth lead"),
    (88, 103, "synth pad"),
    (104, 104, "sitar"),
    (105, 107, "banjo"),
    (108, 109, ""),
    (110, 110, "strings"),
    (111, 113, ""),
    (114, 114, "steel drums"),
)


def family(program: int, drums: bool = False) -> str:
    """The word for one instrument, "" where there is none. `ValueError` for a program outside 0..127."""
    if not 0 <= program <= 127:
        raise ValueError(f"program is {program}, General MIDI has 0..127")
    if drums:
        return DRUMS
    return next((word for low, high, word in _RANGES if low <= program <= high), "")


def families(programs: Sequence[int], drums: Sequence[bool]) -> tuple[str, ...]:
    """The different families of a song's instruments, in order of first appearance."""
    words = (family(program, drum) for program, drum in zip(programs, drums, strict=True))
    return tuple(dict.fromkeys(word for word in words if word))
