"""`backline build` and `why`: the data side."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.console import out

commands = typer.Typer()


def numbers(text: str) -> list[int]:
    """``3,7`` -> [3, 7]"""
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} must be batch numbers with commas between, such as 3,7") from error


def names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@commands.command()
def build(
    library: Annotated[str, typer.Option(help="Folder, glob, or manifest (.txt, .csv, .parquet) of songs.")],
    root: Annotated[str, typer.Option(help="Where ledger, stems and datasets are kept: a folder or s3://bucket/name.")],
    recipe: Annotated[str, typer.Option(help="demo, paper, upstream, or the path of a YAML file.")] = "demo",
    stages: Annotated[str, typer.Option(help="Only these stages, such as separation,artifacts.")] = "",
    only_batches: Annotated[str, typer.Option(help="Only these batches, such as 3,7.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Run the chosen stages again where they are committed.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="Who works: local, processes of this machine, or ray, a cluster.")
    ] = "local",
    limit: Annotated[
        int, typer.Option(min=0, help="Only the first so many songs, in a root of their own; 0 = all.")
    ] = 0,
    fan_out: Annotated[
        str, typer.Option(help="Deployment to work on the batches, such as build-partition/pool; else this process.")
    ] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a setting: section.key=value.")] = None,
) -> None:
    """Turn a song library into a dataset of token shards.

    Stages: detection, quality, separation, artifacts, structure, annotation, selection, augmentation, tokenization,
    tokenization-copies, shards. Whatever is committed is skipped: run it again after a failure, after adding songs,
    or after changing a setting, and only what is missing is done.

    Example: backline build --library ~/Music/songs --root runs/mine
    """
    from flows.build_dataset import ALL_STAGES, BuildParameters, build_dataset

    result = build_dataset(
        BuildParameters.model_validate(
            {
                "recipe": recipe,
                "library": library,
                "root": root,
                "stages": names(stages) or ALL_STAGES,
                "only_batches": numbers(only_batches),
                "force": force,
                "engine": engine,
                "limit": limit,
                "fan_out": fan_out,
                "overrides": set_ or [],
            }
        )
    )
    if result.worked == 0:
        out.print("Nothing to do: every stage of every song was committed before.")
    else:
        out.print(f"{result.worked} pieces of work done (songs x stages).")
    if result.dataset is not None:
        samples = ", ".join(f"{name} {count}" for name, count in result.dataset.samples.items())
        out.print(f"Dataset {result.dataset.directory}: {samples} samples.", soft_wrap=True)


@commands.command()
def why(
    track: Annotated[str, typer.Argument(help="A track id (or its beginning), a file, or a uri of the library.")],
    root: Annotated[str, typer.Option(help="The root of the build.")],
) -> None:
    """Tell the story of one song: every stage, verdict, reason and seconds."""
    from pipeline.errors import BadInput
    from pipeline.records import files
    from pipeline.records.catalog import Catalog
    from pipeline.records.ledger import Ledger

    place = files.place(root)
    catalog, ledger = Catalog(place), Ledger(place)
    found = catalog.find(track)
    if not found:
        raise BadInput(
            f"no song {track!r} in the catalogue under {root}; give a track id, a file or a uri of its library"
        )
    for row in found:
        out.print(f"[bold]{row.track_id}[/]  {escape(row.uris[0])}", soft_wrap=True)
        out.print(f"{row.duration:.1f} s, {row.sample_rate} Hz, {row.channels} channels")
        table = Table("stage", "key", "verdict", "reason", "what it says", "seconds")
        if row.error:
            table.add_row("catalogue", "", "quarantined", row.error, escape(row.message), "")
        for stage, key, told in ledger.story(row.track_id, catalog.batch_of(row.track_id)):
            said = escape(told.message or told.values[:200])
            table.add_row(stage, key, told.status, escape(told.reason), said, f"{told.seconds:.2f}")
        out.print(table)
