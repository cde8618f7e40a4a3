"""librosa, imported so that processes that start together don't spoil each other's compiled code.

librosa compiles some functions with Numba and keeps them on disk. Where two processes compile the same vectorized
function at once, its two cache files may come from different processes, and whoever loads that pair later calls a
null pointer and dies (numba 0.68, worker processes on a fresh machine). So every process takes a cache folder that no
living process has; a folder is used again once its process has ended, so that code is compiled once per worker and
not once per run. Use: ``from pipeline.jit import librosa``.
"""

import fcntl
import itertools
import os
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
SLOT = "process-"


def base_folder() -> Path:
    """Where the folders lie: what the user set, else the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backline" / "numba"
    chosen = Path(os.environ.get(VARIABLE) or default)
    return chosen.parent if chosen.name.startswith(SLOT) else chosen  # inherited from the process that started us


def claim(base: Path) -> tuple[Path, int]:
    """The first folder below `base` that no living process holds, and the file descriptor that holds it."""
    for number in itertools.count():
        folder = base / f"{SLOT}{number}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return folder, lock
    raise AssertionError("the numbers never end")


_folder, _held = claim(base_folder())  # held as long as the process lives
os.environ[VARIABLE] = str(_folder)

import librosa as librosa  # noqa: E402  # Numba reads the variable when it is imported
