"""`backline doctor`: what this machine lacks to run a recipe, and the commands that mend it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.cli.console import out

if TYPE_CHECKING:
    from flows.doctor import Lack

commands = typer.Typer()


@commands.command()
def doctor(
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or the path of a YAML file.")] = "demo",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, over the recipe; may be given several times.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Say what this machine lacks to run a recipe: weights, packages, GPU, memory, disk, versions; exit code 1 if so.

    Example: backline doctor --recipe paper --set separation.device=cuda
    """
    from flows.doctor import examine, this_machine
    from flows.recipe import load_recipe

    lacks = examine(load_recipe(recipe, overrides or ()), this_machine())
    if as_json:
        typer.echo(json.dumps([asdict(lack) for lack in lacks], indent=2))
    elif lacks:
        _show(recipe, lacks)
    else:
        out.print(f"Nothing is missing for {recipe}.", highlight=False)
    if lacks:
        raise typer.Exit(1)


def _show(recipe: str, lacks: Sequence["Lack"]) -> None:
    table = Table("kind", "for", "what is missing", "GB", "licence", box=None, header_style="bold")
    for lack in lacks:
        table.add_row(lack.kind, lack.wanted_by, lack.what, _size(lack), lack.licence)
    out.print(table)
    out.print(f"\n{len(lacks)} things are missing for {recipe}. What mends them:", highlight=False)
    for command in dict.fromkeys(lack.mend for lack in lacks):
        out.print(f"  {command}", highlight=False, soft_wrap=True)
    if sum(lack.kind == "weights" for lack in lacks) > 1:
        command = f"backline assets pull --recipe {recipe} --accept-licence"
        out.print(f"All weights at once: {command}", highlight=False, soft_wrap=True)


def _size(lack: "Lack") -> str:
    if not lack.gigabytes:
        return "?" if lack.kind == "weights" else ""
    return f"{lack.gigabytes:.1f}" if lack.gigabytes >= 0.05 else f"{lack.gigabytes:.2f}"
