"""How much memory this process held at most while it worked on one song."""

import resource
import sys
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESETS_PEAK = "5"  # proc(5): sets the peak of the resident set to what it is now


def reset_peak() -> None:
    """Begin anew; where the system can't (no Linux, no right to), the peak stays that of the process's whole life."""
    try:
        _CLEAR.write_text(_RESETS_PEAK)
    except OSError:
        return


def peak_bytes() -> int:
    """The largest resident set since `reset_peak`. Not `getrusage`: its peak begins with the parent's (Linux, exec)."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes per step of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
