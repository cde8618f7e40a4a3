"""`backline songs`: songs with known truth, rendered here (extra `songs`)."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import out

commands = typer.Typer(help="Songs with known truth, composed and rendered here.", no_args_is_help=True)


class Kind(StrEnum):
    song = "song"
    speech = "speech"
    instrumental = "instrumental"


@commands.callback()
def group() -> None:
    """Songs with known truth, composed and rendered here (extra `songs`: it loads the GPL parts espeak-ng and
    TimGM6mb).
    """


@commands.command()
def render(
    out_: Annotated[Path, typer.Option("--out", help="Folder for the songs and their manifest.csv.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; the others count up.")] = 0,
    kind: Annotated[Kind, typer.Option(help="Sung songs, spoken podcasts, or instrumentals.")] = Kind.song,
) -> None:
    """Compose and render songs: mix, vocal, accompaniment (48 kHz stereo FLAC) and truth.json each.

    The same seed gives the same song; a folder that is finished is skipped, so a cut-off run goes on where it was.

    Example: backline songs render --count 12 --out runs/songs
    """
    from flows.rendering import render_songs

    manifest = render_songs(out_, count, seed, kind.value)
    out.print(f"{count} of kind {kind.value}: {manifest}", soft_wrap=True)
