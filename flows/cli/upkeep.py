"""`backline verify`, `gc` and `forget`: whether a root is whole, what killed builds left, songs to be taken out."""

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
        out.print(f"{problem.kind}: {problem.path}: {problem.message}", soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    said = "every dataset and every recorded file is whole" if whole else "every listed shard is whole"
    out.print(f"{directory}: {said}.", soft_wrap=True)


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
        out.print(f"{item.path}: {WHAT[item.kind]}, {item.age / 3600:.1f} h old", soft_wrap=True)
    size = sum(item.bytes for item in found) / 1e6
    out.print(f"{len(found)} leftovers, {size:.1f} MB, {'found' if dry_run else 'removed'}.")


@commands.command()
def forget(
    song: Annotated[str, typer.Argument(help="A track id (or its beginning), a file, or a uri of the library.")],
    root: Annotated[str, typer.Option(help="The root of the build.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the catalogue and the manifest's history.")] = "",
) -> None:
    """Take a song whose rights were withdrawn out of the catalogue, the ledger, the stems and every shard.

    Shards that held it are written anew, the bytes of other songs as they were; the manifest's history says so, and no
    later build takes the song in again. Only while no build writes there; killed in the middle, run it again. The
    library's own file stays, and so do models, reports and copies made before, older versions that a bucket keeps, and
    other recordings of the same song.

    Example: backline forget 3f9a1c2e --root runs/mine --reason "contract ended"
    """
    from pipeline.records import files
    from pipeline.records.forget import forget as take_out

    done = take_out(files.place(root), song, reason)
    out.print(
        f"Forgot {done.track_id}: {done.rows} ledger rows, {done.artefacts} files, {len(done.shards)} shards written "
        "anew or dropped. Build again to bring the data card up to date.",
        soft_wrap=True,
    )
