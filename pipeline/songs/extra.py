"""The optional packages of the extra `songs`, imported only when something is rendered."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from pipeline.errors import BackendUnavailable

REMEDY = "pip install 'backline[songs]' && pip install --no-deps -r constraints-no-deps.txt"


def require(name: str) -> ModuleType:
    """The module `name`; `BackendUnavailable` with the remedy where the extra `songs` is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise BackendUnavailable(f"rendering songs needs the package {name!r}, which is missing; {REMEDY}") from error


def sound_font() -> Path:
    """The General MIDI sound font inside pretty_midi (TimGM6mb, GPL-2), found without importing the package."""
    spec = find_spec("pretty_midi")
    font = Path(spec.origin).parent / "TimGM6mb.sf2" if spec and spec.origin else None
    if font is None or not font.is_file():
        raise BackendUnavailable(f"the sound font TimGM6mb.sf2 of the package pretty_midi is missing; {REMEDY}")
    return font
