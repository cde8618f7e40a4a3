"""How much memory this process held at most while it worked on one song."""

import os
import resource
import sys
from contextlib import suppress

_STATUS, _CLEAR = "/proc/self/status", "/proc/self/clear_refs"  # by plain calls of the system: asked for every song
_RESETS_PEAK = b"5"  # proc(5): sets the peak of the resident set to what it is now


def reset_peak() -> None:
    """Begin anew; where the system can't (no Linux, no right to), the peak stays that of the process's whole life."""
    try:
        file = os.open(_CLEAR, os.O_WRONLY)
    except OSError:
        return
    with suppress(OSError):
        os.write(file, _RESETS_PEAK)
    os.close(file)


def peak_bytes() -> int:
    """The largest resident set since `reset_peak`. Not `getrusage`: its peak begins with the parent's (Linux, exec)."""
    told = _status().partition(b"VmHWM:")[2].split(maxsplit=1)
    if told:
        return int(told[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes per step of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status() -> bytes:
    """What the system says of this process; empty where it says nothing."""
    try:
        file = os.open(_STATUS, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(file, 8192)  # it is 1.5 kB
    finally:
        os.close(file)
