"""`backline bench listening`: does the model listen to the voice?"""

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.console import err, out
from flows.cli.progress import bar

commands = typer.Typer()


class Sources(StrEnum):
    both = "both"
    dry = "dry"
    separated = "separated"


@commands.command()
def listening(
    out_: Annotated[Path, typer.Option("--out", help="Folder for songs, codes, runs, results.json and gains.png.")],
    songs: Annotated[int, typer.Option(min=2, help="Songs to train on, 60-90 s each.")] = 360,
    held: Annotated[int, typer.Option(min=2, help="Songs to score, never trained on.")] = 48,
    sources: Annotated[Sources, typer.Option(help="Stems as rendered, as the separator cuts them, or both.")] = (
        Sources.both
    ),
    recipe: Annotated[
        str,
        typer.Option(help="Recipe of all networks, a name or a YAML file; else the bench's own."),
    ] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: section.key=value.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that render, encode, train and score.")] = 1,
) -> None:
    """Train a network, and twins whose vocals are paired at random; score held-out songs given true and other vocals.

    Hours long; cut off, the same command goes on. Example: backline bench listening --out runs/listening
    """
    from flows.bench.listening import RECIPE, ListeningConfig, run
    from flows.bench.listening_show import draw, table_of
    from flows.bench.listening_songs import Source
    from flows.recipe import load_recipe

    chosen: list[Source] = ["dry", "separated"] if sources == Sources.both else [sources.value]  # type: ignore[list-item]
    with ExitStack() as bars:
        shows = {}

        def show(phase: str, done: int, total: int) -> None:
            if phase not in shows:
                shows[phase] = bars.enter_context(bar(phase, "step" if phase == "train" else "song"))
            shows[phase](done, total)

        config = ListeningConfig(train_songs=songs, held_songs=held)
        found = run(out_, config, load_recipe(recipe or str(RECIPE), set_ or []), chosen, workers, show)
    out.print(table_of(found))
    draw(found, out_ / "gains.png")
    err.print(f"{out_ / 'results.json'} and gains.png beside it", soft_wrap=True)
