"""`backline codec`: train and measure the embedded codec."""

from pathlib import Path

import typer

commands = typer.Typer(help="Train and measure the embedded codec.", no_args_is_help=True)
AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3")


@commands.callback()
def group() -> None:
    """Train and measure the embedded codec: one stream of 16384 codes, 25 a second."""


def audio_files(folder: Path) -> list[Path]:
    """Audio files below a folder, in a fixed order."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO)
    if not found:
        raise typer.BadParameter(f"no {', '.join(AUDIO)} file below {folder}")
    return found
