"""`backline bench scale`, `dataplane` and `sizing`: what the machinery costs, apart from the stages' own work."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from flows.cli.build import names, numbers
from flows.cli.console import err, out

commands = typer.Typer()
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit code 1 where a figure misses what is demanded.")]


@commands.command()
def scale(
    songs: Annotated[str, typer.Option(help="Sizes of the synthetic libraries.")] = "1000,10000",
    stages: Annotated[str, typer.Option(help="Only these stages, such as detection,quality.")] = "",
    plan: Annotated[int, typer.Option(min=0, help="Also plan a build of so many songs, without building.")] = 0,
    root: Annotated[
        Path | None, typer.Option(help="Keep libraries and builds here; cut off, it goes on (default: thrown away).")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw CPU over songs into this PNG or SVG.")] = None,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Rehearse builds of synthetic libraries, with stand-ins for the stages: what catalogue, ledger, Prefect and
    sharder cost.

    Every library is built twice, the second time with nothing left to do, against a Prefect server of its own. On a
    slow disk give a folder in memory (/dev/shm). Example: backline bench scale --songs 1000,10000 --plan 100000
    """
    from flows.bench.planning import plan as plan_build
    from flows.bench.scale import measure
    from flows.bench.scale_show import draw, fit, in_words, missed, table_of, to_json

    cases = []
    with ExitStack() as stack:
        folder = root or Path(stack.enter_context(TemporaryDirectory(prefix="backline-scale-")))
        for size in numbers(songs):
            cases.append(measure(folder, size, names(stages), err.print))
            if as_json:
                typer.echo(to_json(cases[-1]))
        if plan:
            planned = plan_build(Path(stack.enter_context(TemporaryDirectory(prefix="backline-plan-"))), plan)
            typer.echo(json.dumps(asdict(planned)))
    fitted = fit(cases)
    if cases and not as_json:
        out.print(table_of(cases))
    if fitted is not None:
        typer.echo(json.dumps({"fit": asdict(fitted)}) if as_json else in_words(fitted))
    if plot and cases:
        draw(cases, plot)
    for line in (lines := missed(cases)):
        err.print(line, highlight=False)
    if strict and lines:
        raise typer.Exit(1)


@commands.command()
def dataplane(
    samples: Annotated[int, typer.Option(min=1, help="Songs in a shard.")] = 256,
    shards: Annotated[int, typer.Option(min=1, help="Shards that are read.")] = 2,
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of a song.")] = 240.0,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds, each of ours and theirs.")] = 12,
    ledger_rows: Annotated[int, typer.Option(min=0, help="Also scan a ledger of so many rows; 0 = none.")] = 140_000,
    root: Annotated[
        Path | None, typer.Option(help="Where the shards lie (default: the folder for temporary files).")
    ] = None,
    as_json: AsJson = False,
    strict: Strict = False,
) -> None:
    """Read and write shards beside plain webdataset, on the same samples, in turns; scan a ledger.

    Bars are on CPU time; wall time holds what the disk does with our fsync. Example: backline bench dataplane
    """
    from flows.bench import ledger_scan
    from flows.bench.dataplane import compare, table_of, to_json

    with TemporaryDirectory(prefix="backline-dataplane-", dir=root) as folder:
        found = compare(Path(folder), samples, shards, seconds, rounds)
        scans = [ledger_scan.scan(Path(folder) / "root", ledger_rows)] if ledger_rows else []
    if not as_json:
        out.print(table_of(found))
    for line in map(to_json, found) if as_json else ():
        typer.echo(line)
    for line in map(ledger_scan.to_json if as_json else ledger_scan.in_words, scans):
        typer.echo(line)
    if strict and not (all(one.passed for one in found) and all(one.passed for one in scans)):
        raise typer.Exit(1)


@commands.command()
def sizing() -> None:
    """Print what builds of 140,000 and of 1.4 million songs take: hours, gigabytes, money, and where each figure is
    from; the tables of infra/sizing.md.
    """
    from flows.bench.sizing import page

    typer.echo(page())
