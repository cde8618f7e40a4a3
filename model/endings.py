"""How a run's last trainer ended, told by files in its folder: launchers swallow exit codes and messages.

Conventions: ``final`` (complete): finished. ``STOPPED``: asked to stop, and saved. ``refused.txt``: an error that the
same command meets again, in its own words. None of them: killed, or crashed.
"""

from pathlib import Path
from typing import Literal

from model import checkpoint

STOPPED, REFUSED = "STOPPED", "refused.txt"

Ending = Literal["finished", "refused", "stopped", "crashed"]


def clear(folder: Path) -> None:
    """Forget the last ending; a new trainer begins."""
    for name in (STOPPED, REFUSED):
        (folder / name).unlink(missing_ok=True)


def stopped(folder: Path, step: int) -> None:
    """The trainer was asked to stop and has saved a checkpoint after `step`."""
    _write(folder / STOPPED, f"stopped and saved after step {step}; the same command resumes\n")


def refused(folder: Path, message: str) -> None:
    """The trainer can't train this, and won't when asked again."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / REFUSED, message + "\n")


def refusal(folder: Path) -> str:
    """What the trainer said when it refused; empty where it didn't."""
    path = folder / REFUSED
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def ending(folder: Path) -> Ending:
    """How the last trainer in the folder ended; only meaningful where none is at work (`lock.holder`)."""
    if (folder / REFUSED).exists():
        return "refused"
    if checkpoint.complete(folder / checkpoint.FINAL):
        return "finished"
    return "stopped" if (folder / STOPPED).exists() else "crashed"


def _write(path: Path, text: str) -> None:
    """All or nothing; several processes of one run may refuse at once."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
