"""`backline separation`: train the embedded separator's refiner."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from flows.cli.console import out
from flows.cli.folders import audio_files
from flows.cli.progress import phases

commands = typer.Typer(help="Train the embedded separator's refiner.", no_args_is_help=True)


@commands.callback()
def group() -> None:
    """Train the small network that corrects Spleeter's mask."""


@commands.command()
def train(
    songs: Annotated[Path, typer.Option(help="Folder of rendered songs: one folder each, with their true stems.")],
    music: Annotated[list[Path], typer.Option(help="Folder of music without voices; may be given several times.")],
    speech: Annotated[list[Path], typer.Option(help="Folder of speech; may be given several times.")],
    out_: Annotated[Path, typer.Option("--out", help="The weights file to write (.safetensors).")],
    examples: Annotated[int, typer.Option(min=1, help="Remixes of 12 s.")] = 160,
    steps: Annotated[int, typer.Option(min=1, help="Steps of 24 s; about half a CPU second each.")] = 800,
    start: Annotated[Path | None, typer.Option(help="Weights to go on from; else from scratch.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same files, seed, examples and steps, same weights.")] = 0,
) -> None:
    """Train on remixes of known voices and bands; cut off, the same command goes on where it was.

    Example: backline separation train --songs runs/songs --music ~/bands --speech ~/speech --out refiner.safetensors
    """
    from pipeline.separation.train_refiner import RefinerTrainingConfig, train_refiner

    folders = sorted(path.parent for path in songs.glob("*/vocal.flac"))
    if not folders:
        raise typer.BadParameter(f"no folder with a vocal.flac below {songs}: make some by backline songs render")
    config = RefinerTrainingConfig(seed=seed, examples=examples, steps=steps)
    with phases() as show:
        losses = train_refiner(folders, audio_files(*music), audio_files(*speech), out_, config, show, start)
    reached = -float(np.mean(losses[-50:]))
    out.print(f"{out_}: {len(folders)} songs, SDR of the last steps {reached:.1f} dB on what it learnt from.")
