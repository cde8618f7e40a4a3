"""Audio files that a user names by their folder."""

from pathlib import Path

import typer

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def audio_files(*folders: Path) -> list[Path]:
    """Audio files below each folder, in a fixed order; `typer.BadParameter` for a folder without any."""
    found: list[Path] = []
    for folder in folders:
        below = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not below:
            raise typer.BadParameter(f"no {', '.join(SUFFIXES)} file below {folder}")
        found += below
    return found
