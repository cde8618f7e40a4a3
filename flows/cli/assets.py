"""`backline assets`: the weight files of others: what there is, under which terms, and bringing it here."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.cli.console import err, out
from pipeline.assets import store
from pipeline.assets.known import ASSETS
from pipeline.assets.table import Asset, Package
from pipeline.errors import BackendUnavailable

commands = typer.Typer(
    help="Weight files: what there is, under which licence, and bringing it here.", no_args_is_help=True
)
Names = Annotated[list[str] | None, typer.Argument(help="Assets by name; else those of --recipe, or all.")]
OfRecipe = Annotated[str, typer.Option("--recipe", help="Those that this recipe's backends load.")]


@commands.callback()
def group() -> None:
    """Weight files that backends load, kept in $BACKLINE_ASSETS, else in backline/assets of the user's cache."""


@commands.command("list")
def list_(
    recipe: OfRecipe = "", as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False
) -> None:
    """Every asset: what it is, where it comes from, its size, its licence, and whether it is on this machine.

    Example: backline assets list --recipe paper
    """
    chosen = _chosen(None, recipe)
    if as_json:
        typer.echo(json.dumps([_facts(one) for one in chosen], indent=2))
        return
    table = Table("name", "what", "from", "GB", "licence", "commercial use", "here", box=None, header_style="bold")
    for one in chosen:
        size = f"{one.gigabytes:.4f}".rstrip("0") if one.gigabytes else "?"
        table.add_row(one.name, one.what, str(one.origin), size, one.licence, _yes(one.commercial), _here(one))
    out.print(table)


@commands.command()
def pull(
    names: Names = None,
    recipe: OfRecipe = "",
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the terms of weights that allow no commercial use.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Take files from --mirror alone, ask no server.")] = False,
    mirror: Annotated[str, typer.Option(help="A folder or URL laid out like a store; asked before the origin.")] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds without a byte before another attempt.")] = 30.0,
) -> None:
    """Fetch what is not here yet: resumed where it was cut off, checked, and there only once it is whole.

    Example: backline assets pull --recipe paper --accept-licence
    """
    from flows.cli.progress import bar
    from pipeline.assets.download import Patience
    from pipeline.assets.pull import Terms
    from pipeline.assets.pull import pull as pull_asset

    if not names and not recipe:
        raise typer.BadParameter("name assets (backline assets list), or give --recipe")
    terms = Terms(accept_licence, offline, mirror, Patience(seconds=timeout))
    failed = []
    for one in _chosen(names, recipe):
        try:
            with bar(one.name, "B") as show:
                new = pull_asset(one.name, terms, show)
            out.print(f"{one.name}: {'pulled' if new else 'already here'}", highlight=False)
        except BackendUnavailable as error:  # the others may still come
            failed.append(one.name)
            told = f"[bold red]{one.name}:[/] {escape(str(error))}"
            err.print(told, highlight=False, soft_wrap=True, markup=True)
    if failed:
        raise typer.Exit(1)


@commands.command()
def verify(names: Names = None, recipe: OfRecipe = "") -> None:
    """Hash every file that is here anew, and say what is wrong; exit code 1 where anything is.

    Without names: everything that was pulled or is installed. An asset that was named and is not here is wrong.

    Example: backline assets verify muq mucodec
    """
    from pipeline.assets.pull import verify as verify_asset

    wrong = 0
    for one in _chosen(names, recipe):
        if not names and not recipe and _here(one) == "no":
            continue
        fault = verify_asset(one.name)
        wrong += bool(fault)
        told = f"{fault}; {store.remedy(one)}" if fault else f"{one.name}: whole"
        (err if fault else out).print(told, highlight=False, soft_wrap=True)
    if wrong:
        raise typer.Exit(1)


@commands.command()
def pin(recipe: Annotated[str, typer.Option("--recipe", help="The recipe whose weights to pin.")] = "paper") -> None:
    """Print the hashes of a recipe's weights, as lines to add to it: its builds then take no others.

    With them, a machine without the weights can follow a build, or lead one whose workers have them.

    Example: backline assets pin --recipe paper
    """
    from flows.recipe import load_recipe
    from flows.requirements import assets_of, pinned

    found = pinned(load_recipe(recipe))
    typer.echo("weights:")
    for name in assets_of(found):
        if name in found.weights:
            typer.echo(f"  {name}: {found.weights[name]}")
    if missing := [name for name in assets_of(found) if name not in found.weights]:
        err.print(f"not here, and of unknown hash: {', '.join(missing)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1)


@commands.command()
def licences(recipe: OfRecipe = "") -> None:
    """Under which terms each asset comes, what is not certain about them, and whether somebody accepted them here.

    Example: backline assets licences --recipe paper
    """
    for one in _chosen(None, recipe):
        held = _here(one) == "yes"
        stated = store.stated_licence(one) if held else one.licence
        told = f"[bold]{one.name}[/] ({escape(one.what)}): {escape(stated)}"
        out.print(told, highlight=False, soft_wrap=True, markup=True)
        about = one.about or "see its package"
        out.print(f"  commercial use: {_yes(one.commercial)}; {about}", highlight=False, soft_wrap=True)
        if one.doubt:
            out.print(f"  {one.doubt}", highlight=False, soft_wrap=True)


def _chosen(names: list[str] | None, recipe: str) -> list[Asset]:
    """The assets named, those of a recipe, or all."""
    if names:
        return [store.asset(name) for name in names]
    return [store.asset(name) for name in (_of(recipe) if recipe else ASSETS)]


def _of(recipe: str) -> Iterable[str]:
    from flows.recipe import load_recipe
    from flows.requirements import assets_of

    return assets_of(load_recipe(recipe))


def _here(one: Asset) -> str:
    """yes, no, or damaged; by size and time, not by hash."""
    if not store.fault_of(one):
        return "yes"
    return "damaged" if store.pulled(one) else "no"


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _facts(one: Asset) -> dict[str, object]:
    """What `list --json` says of an asset; hashes as far as they are known here."""
    folder = store.folder_of(one)
    here = _here(one)
    landed = store.landed_files(one) if here == "yes" else {}
    return {
        "name": one.name,
        "what": one.what,
        "from": str(one.origin),
        "package": isinstance(one.origin, Package),
        "gigabytes": one.gigabytes,
        "licence": one.licence,
        "commercial": one.commercial,
        "about": one.about,
        "doubt": one.doubt,
        "here": here,
        "folder": str(folder or Path()),
        "files": [
            {
                "path": file.path,
                "format": file.format,
                "bytes": file.size or (landed[file.path].size if file.path in landed else None),
                "sha256": (landed[file.path].sha256 if file.path in landed else file.sha256) or None,
            }
            for file in one.files
        ],
    }
