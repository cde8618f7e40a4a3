"""`backline build`: a song library in, a dataset of token shards out."""

from typing import Annotated

import typer

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
    from flows.build_dataset import BuildParameters, build_dataset
    from flows.control import end_is_told
    from flows.work import ALL_STAGES

    with end_is_told():
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
