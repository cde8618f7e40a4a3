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


class Fault(StrEnum):
    none = ""
    no_chorus = "no_chorus"
    long_intro = "long_intro"
    long_interlude = "long_interlude"
    speech = "speech"


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
    fault: Annotated[
        Fault, typer.Option(help="A fault of the form, for songs: what the selection of a build must find.")
    ] = Fault.none,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one for each core.")] = 0,
) -> None:
    """Compose and render songs: mix, vocal, accompaniment (48 kHz stereo FLAC) and truth.json each.

    The same seed gives the same song; a folder that is finished is skipped, so a cut-off run goes on where it was.
    truth.json says what was sung and played, when, and by what. Analysed words are kept in ~/.cache/backline
    (or BACKLINE_CACHE).

    Example: backline songs render --count 12 --out runs/songs
    """
    from flows.rendering import render_songs

    if fault and kind != Kind.song:
        raise typer.BadParameter(f"{fault.value} is a fault of songs, not of kind {kind.value}: leave one of them out")
    manifest = render_songs(out_, count, seed, kind.value, fault.value, workers)
    out.print(f"{count} of kind {fault.value or kind.value}: {manifest}", soft_wrap=True)
