"""`backline demo`: what `make demo` runs."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import out

commands = typer.Typer()


@commands.command()
def demo(
    out_: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path("runs/demo"),
    library: Annotated[
        str, typer.Option(help="Your own songs (folder, glob, manifest); rendered ones top them up.")
    ] = "",
    songs: Annotated[
        int, typer.Option(min=8, help="Songs in all; a quarter of the rendered ones are test songs.")
    ] = 24,
) -> None:
    """Do the whole job, small: songs -> dataset -> two-stage training -> accompaniments for unheard voices -> report.

    Cut off, it goes on with what is missing; the evaluation is always done again.
    """
    from flows.demo import DemoSize, run_demo

    report = run_demo(out_, library, DemoSize(songs=songs))
    out.print(f"Open {report}", soft_wrap=True)
