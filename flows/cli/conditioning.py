"""`backline conditioning`: train the words that the embedded conditioner and annotator know."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import out
from flows.cli.folders import rendered_songs
from flows.cli.progress import bar

commands = typer.Typer(help="Train the words of the embedded conditioner and annotator.", no_args_is_help=True)


@commands.callback()
def group() -> None:
    """Train the head that hears styles and instruments, and the directions of their words among texts."""


@commands.command()
def train(
    songs: Annotated[list[Path], typer.Option(help="Folder of rendered songs; may be given several times.")],
    out_: Annotated[Path, typer.Option("--out", help="Folder for words.safetensors and directions.safetensors.")],
    cache: Annotated[Path, typer.Option(help="Folder for what was heard, three seconds of work a song.")],
) -> None:
    """Learn styles and families of instruments from songs that say what plays; cut off, it goes on from the cache.

    Songs of another renderer version, and with seeds of 500000 and above (for tuning and tests), are left out.

    Example: backline conditioning train --songs runs/songs --cache runs/heard --out runs/words
    """
    from pipeline.conditioning.training import train as train_words
    from pipeline.conditioning.training import training_songs

    rendered_songs(*songs)  # a folder without any is named
    with bar("listen", "song") as show:
        head = train_words(training_songs(songs), cache, out_, show)
    out.print(f"{out_}: {len(head.styles)} styles, {len(head.instruments)} families of instruments.")
