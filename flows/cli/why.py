"""`backline why` and `quarantine`: what became of one song, and which songs were dropped."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from flows.cli.console import out

if TYPE_CHECKING:
    from pipeline.records.ledger import Row

commands = typer.Typer()
SHOWN = 50  # songs; a terminal holds no more, a file holds all


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
        out.print(f"[bold]{row.track_id}[/]  {escape(row.uris[0])}", soft_wrap=True, markup=True)
        out.print(f"{row.duration:.1f} s, {row.sample_rate} Hz, {row.channels} channels")
        whole = [Column(name, no_wrap=True) for name in ("stage", "key", "verdict")]
        table = Table(*whole, "reason", "what it says", "took")
        if row.error:
            table.add_row("catalogue", "", "quarantined", row.error, row.message)
        for stage, key, told in ledger.story(row.track_id, catalog.batch_of(row.track_id)):
            said = told.message or told.values[:200]
            table.add_row(stage, key, told.status, told.reason, said, _took(told))
        out.print(table)


def _took(row: "Row") -> str:
    """Seconds, those of its phases, and memory."""
    from model.evaluation.units import size

    phases = [f"{name} {seconds:.2f}" for name, seconds in sorted(row.phases.items()) if seconds >= 0.005]
    spent = f"{row.seconds:.2f} s" + (f": {', '.join(phases)}" if phases else "")
    return f"{spent}; {size(row.peak_bytes)}" if row.peak_bytes else spent


@commands.command()
def quarantine(
    root: Annotated[str, typer.Argument(help="The root of a build: a folder or s3://bucket/name.")],
    status: Annotated[str, typer.Option(help="quarantined, rejected, failed or all.")] = "quarantined",
    stage: Annotated[str, typer.Option(help="Only those dropped at this stage.")] = "",
    reason: Annotated[str, typer.Option(help="Only those dropped for this reason.")] = "",
    save_to: Annotated[str, typer.Option("--out", help="Write all of them to a .parquet or .csv file.")] = "",
    recipe: Annotated[str, typer.Option(help="Of which recipe; without, of the last build in this root.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="With --recipe: section.key=value.")] = None,
) -> None:
    """List the songs that a build dropped: quarantined (the file can't be used), rejected or failed ones.

    Columns of the file: track_id, stage, key, status, reason, message, uri, batch, duration, seconds.

    Example: backline quarantine runs/mine --status all --out dropped.parquet
    """
    from flows.quarantine import DROPPED, counted, dropped, save
    from flows.status import build_of
    from pipeline.records import files

    chosen = DROPPED if status == "all" else tuple(name for name in DROPPED if name == status)
    if not chosen:
        raise ValueError(f"no status {status!r}; there are {', '.join(DROPPED)} and all")
    table = dropped(build_of(files.place(root), recipe, set_ or []), chosen, stage, reason)
    if save_to:
        save(table, files.place(save_to))
        out.print(f"{table.num_rows} songs written to {save_to}.", soft_wrap=True)
        return
    summary = Table("stage", "status", "reason", "songs", box=None, header_style="bold", padding=(0, 1))
    for name, ended, told, songs in counted(table):
        summary.add_row(name, ended, Text(told), str(songs))
    out.print(summary if table.num_rows else f"No song is {'dropped' if status == 'all' else status}.")
    _list(table.slice(0, SHOWN), table.num_rows)


def _list(table: Any, whole: int) -> None:
    """The first songs, one a line."""
    if not whole:
        return
    listed = Table("song", "stage", "reason", "what it says", box=None, header_style="bold", padding=(0, 1))
    for row in table.to_pylist():
        said = row["message"].splitlines()[0] if row["message"] else ""
        listed.add_row(Text(row["uri"], overflow="fold"), row["stage"], Text(row["reason"]), Text(said))
    out.print()
    out.print(listed)
    if whole > SHOWN:
        out.print(f"… and {whole - SHOWN} more; --out FILE.parquet has all of them.")
