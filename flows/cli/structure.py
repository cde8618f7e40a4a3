"""`backline structure`: train the embedded structure networks."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import out
from flows.cli.folders import rendered_songs
from flows.cli.progress import phases

commands = typer.Typer(help="Train the embedded structure networks.", no_args_is_help=True)


@commands.callback()
def group() -> None:
    """Train the small networks that find beats, sections and the key."""


@commands.command()
def train(
    songs: Annotated[list[Path], typer.Option(help="Folder of rendered songs; may be given several times.")],
    out_: Annotated[Path, typer.Option("--out", help="The weights file to write (.safetensors).")],
    beat_steps: Annotated[int, typer.Option(min=1, help="Steps of the beat network, 8 crops of 30 s each.")] = 350,
    form_steps: Annotated[int, typer.Option(min=1, help="Steps of the form network, 4 songs each.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Same songs, seed and steps, same weights.")] = 0,
) -> None:
    """Train on songs whose beats, sections and keys are known; cut off, the same command goes on where it was.

    Example: backline structure train --songs runs/songs --out structure.safetensors
    """
    from pipeline.structure.train import StructureTrainingConfig
    from pipeline.structure.train import train as train_structure

    config = StructureTrainingConfig(seed=seed, beat_steps=beat_steps, form_steps=form_steps)
    folders = rendered_songs(*songs)
    with phases() as show:
        report = train_structure([f for f in folders if f.name.startswith("song-")], out_, config, show)
    out.print(
        f"{report.weights}: {report.songs} songs; beat loss {report.beat_loss[-1]:.3f}, form loss "
        f"{report.form_loss[-1]:.3f} over the last tenth of the steps. Use it with --set structure.weights={out_}",
        soft_wrap=True,
    )
