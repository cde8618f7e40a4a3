"""`backline verify` and `gc`: whether a root is whole, and what killed builds left in it."""

from typing import Annotated

import typer

from flows.cli.console import out

commands = typer.Typer()


@commands.command()
def verify(
    directory: Annotated[str, typer.Argument(help="A dataset, such as ROOT/datasets/demo, or the whole ROOT.")],
) -> None:
    """Hash a dataset again and read every sample; of a root, all datasets and everything that the ledger names.

    Finds cut or changed shards, missing sidecars, samples counted twice, damaged stems and codes, and what builds
    that were killed a day or more ago left behind. Exit code 1 and a list where there is anything.

    Example: backline verify runs/mine
    """
    from pipeline.records import files
    from pipeline.records import verify as checks

    place = files.place(directory)
    whole = any(entry.name in ("catalog", "stages") for entry in files.entries(place))
    problems = checks.verify_root(place) if whole else checks.verify(place)
    for problem in problems:
        out.print(f"{problem.kind}: {problem.path}: {problem.message}", soft_wrap=True, markup=False)
    if problems:
        raise typer.Exit(1)
    said = "every dataset and every recorded file is whole" if whole else "every listed shard is whole"
    out.print(f"{directory}: {said}.", soft_wrap=True, markup=False)


@commands.command()
def gc(
    root: Annotated[str, typer.Argument(help="The root of a build.")],
    lease: Annotated[float, typer.Option(help="Hours after which a writer counts as dead.")] = 24.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Remove what killed builds left: unfinished files and uploads, tars without a sidecar, stems no row names.

    Nothing that is committed is ever removed, and nothing younger than the lease.

    Example: backline gc runs/mine --dry-run
    """
    from pipeline.records import files
    from pipeline.records.leftovers import WHAT, collect

    found = collect(files.place(root), lease, dry_run)
    for item in found:
        out.print(f"{item.path}: {WHAT[item.kind]}, {item.age / 3600:.1f} h old", soft_wrap=True, markup=False)
    size = sum(item.bytes for item in found) / 1e6
    out.print(f"{len(found)} leftovers, {size:.1f} MB, {'found' if dry_run else 'removed'}.")
