"""`backline status`: where a build stands, in the terminal, without Prefect."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flows.cli.console import out

if TYPE_CHECKING:
    from flows.progress import BuildProgress, StageProgress
    from flows.tally import StageStatistics

commands = typer.Typer()
OLD = 600.0  # s; a build that finished no song for so long may have stopped. Ours
MOST = 40  # columns that reasons may take


@commands.command()
def status(
    root: Annotated[str, typer.Argument(help="The root of a build: a folder or s3://bucket/name.")],
    recipe: Annotated[str, typer.Option(help="Of which recipe; without, of the last build in this root.")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="With --recipe: section.key=value.")] = None,
    stage: Annotated[str, typer.Option(help="One stage, batch by batch.")] = "",
    watch: Annotated[float, typer.Option(min=0, help="Look again every so many seconds; end with Ctrl-C.")] = 0.0,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object, batches included.")] = False,
) -> None:
    """Tell where a build stands: songs done and dropped at every stage, pace, memory, and the time that is left.

    Counted from what is committed, whoever works on it and wherever: no server is asked. Songs still to come are
    guessed from those that came. Rates are over the time during which anybody worked, so pauses don't count.

    Example: backline status runs/mine --watch 5
    """
    from flows.status import as_json, build_of
    from flows.status import watch as looks
    from pipeline.records import files

    context = build_of(files.place(root), recipe, set_ or [])
    if stage and stage not in context.keys:
        raise ValueError(f"no stage {stage!r}; there are {', '.join(context.keys)}")
    found = looks(context)
    if json_:
        out.print(json.dumps(as_json(next(found))), soft_wrap=True, highlight=False)
    elif watch:
        _watch(root, stage, found, watch)
    else:
        out.print(page(root, stage, next(found), time.time()))


def _watch(root: str, stage: str, found: "Iterator[BuildProgress]", seconds: float) -> None:
    """Until the build is done, or Ctrl-C."""
    with Live(console=out, auto_refresh=False) as live:
        try:
            for progress in found:
                live.update(page(root, stage, progress, time.time()), refresh=True)
                if progress.share >= 1:
                    return
                time.sleep(seconds)
        except KeyboardInterrupt:
            return


def page(root: str, stage: str, progress: "BuildProgress", now: float) -> Group:
    """The whole answer; `now` in s since 1970."""
    table = batch_table(progress, stage) if stage else stage_table(progress)
    share = Table.grid(padding=(0, 1))
    share.add_row(ProgressBar(100, 100 * progress.share, width=40), f"{progress.share:.1%}", time_left(progress))
    return Group(Text(headline(root, progress, now), overflow="fold"), table, share)


def headline(root: str, progress: "BuildProgress", now: float) -> str:
    from model.evaluation.units import duration

    said = f"{root}: {progress.songs} songs, {progress.audio_seconds / 3600:.1f} h of audio"
    if not progress.latest:
        return said
    ago = max(0.0, now - progress.latest)
    quiet = "; nothing since, has it stopped?" if ago > OLD and progress.share < 1 else ""
    return f"{said}; the last piece of work ended {duration(ago)} ago{quiet}"


def time_left(progress: "BuildProgress") -> str:
    from flows.progress import to_go

    return to_go(progress)


def stage_table(progress: "BuildProgress") -> Table:
    """A line for each stage."""
    table = _table("stage", "done", "of", "ok", "rejected", "quarantined", "failed", *PACE, "time left")
    for stage in progress.stages:
        done = stage.done
        table.add_row(
            done.stage,
            *(str(done.settled), _wanted(stage), str(done.ok)),
            *(_count(counted) for counted in (done.rejected, done.quarantined)),
            Text(_count(done.failed), "bold red"),
            *pace(done),
            _eta(stage),
            style="" if stage.left else "dim",
        )
    return table


def batch_table(progress: "BuildProgress", stage: str) -> Table:
    """A line for each batch of one stage."""
    table = _table("batch", "seen", "ok", "rejected", "quarantined", "failed", *PACE, "seconds by phase")
    for batch, done in progress.batches[stage].items():
        table.add_row(
            *(str(batch), str(done.seen), str(done.ok)),
            *(_reasons(counted) for counted in (done.rejected, done.quarantined)),
            Text(_reasons(done.failed), "bold red"),
            *pace(done),
            ", ".join(f"{name} {seconds:.1f}" for name, seconds in sorted(done.phases.items())),
        )
    return table


PACE = ("songs/s", "audio h/h", "s/song", "peak")


def pace(done: "StageStatistics") -> tuple[str, ...]:
    """The cells under `PACE`."""
    from model.evaluation.units import rate, size

    each = f"{done.seconds / done.seen:.2f}" if done.seen else ""
    return (rate(done.songs_per_second), rate(done.audio_per_second), each, size(done.peak_bytes))


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for name in names:
        left = name in ("stage", "seconds by phase")
        table.add_column(name, justify="left" if left else "right", no_wrap=name == "stage")
    return table


def _wanted(stage: "StageProgress") -> str:
    """How many songs the stage will have got; ~ where that is a guess."""
    return f"~{stage.expected:.0f}" if round(stage.expected) > stage.wanted else str(stage.wanted)


def _eta(stage: "StageProgress") -> str:
    from model.evaluation.units import duration

    if not stage.left:
        return ""
    return duration(stage.eta) if stage.done.timed else "?"


def _count(counted: Mapping[str, int]) -> str:
    return str(sum(counted.values()) or "")


def _reasons(counted: Mapping[str, int]) -> str:
    from flows.progress import reasons

    said = reasons(counted)
    return said if len(said) <= MOST else f"{said[: MOST - 1]}…"
