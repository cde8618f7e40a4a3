"""Audio files and rendered songs that a user names by their folder."""

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


def rendered_songs(*folders: Path) -> list[Path]:
    """The folders of rendered songs in each folder, in a fixed order; `typer.BadParameter` for one without any."""
    found: list[Path] = []
    for folder in folders:
        below = sorted(path.parent for path in folder.glob("*/truth.json"))
        if not below:
            raise typer.BadParameter(f"no rendered song in {folder}: make some by backline songs render --out {folder}")
        found += below
    return found
