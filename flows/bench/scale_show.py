"""The scale bench in words, bars and a picture."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from flows.bench.scale import ScaleCase

MOST_MS = 1.0  # CPU, client and server, per song and stage: demanded at `AT_SONGS` and above
AT_SONGS = 10_000
MOST_TASKS = 1.0  # task runs per stage and batch
MOST_EXPONENT = 1.1  # of CPU over songs; 1 is linear. Ours
SCAN_ROWS, MOST_SCAN_SECONDS = 140_000, 2.0


def exponent(cases: Sequence[ScaleCase]) -> float:
    """The slope of log(CPU) over log(songs), least squares; what a build with nothing to do costs is taken off first.

    NaN for fewer than two sizes.
    """
    fixed = min((case.again_cpu for case in cases), default=0.0)
    points = [(math.log(case.songs), math.log(case.cpu - fixed)) for case in cases if case.cpu > fixed]
    if len({x for x, _ in points}) < 2:
        return math.nan
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    covered = sum((x - mean_x) ** 2 for x, _ in points)
    return float(sum((x - mean_x) * (y - mean_y) for x, y in points) / covered)


@dataclass(frozen=True, slots=True)
class Line:
    """CPU seconds as a straight line over songs."""

    fixed: float  # s of a build without songs
    per_song: float  # s
    residuals: tuple[float, ...]  # of each case: measured over told by the line, less 1


def fit(cases: Sequence[ScaleCase]) -> Line | None:
    """The line of least squares of the relative errors, since what disturbs a build grows with it; None for one size.

    With two sizes it goes through both: it takes three to see that it is none.
    """
    songs, cpu = np.array([case.songs for case in cases], float), np.array([case.cpu for case in cases])
    if len(set(songs)) < 2:
        return None
    terms = np.stack([np.ones_like(songs), songs], axis=1)
    (fixed, per_song), *_ = np.linalg.lstsq(terms / cpu[:, None], np.ones_like(cpu), rcond=None)
    return Line(float(fixed), float(per_song), tuple((cpu / (fixed + per_song * songs) - 1).tolist()))


def in_words(line: Line) -> str:
    residuals = ", ".join(f"{100 * share:+.1f} %" for share in line.residuals)
    return f"CPU = {line.fixed:.1f} s + {1e3 * line.per_song:.2f} ms a song; the cases lie off by {residuals}"


def missed(cases: Sequence[ScaleCase]) -> list[str]:
    """The bars that the figures miss, in words; a bar about sizes that were not measured is not missed."""
    told = []
    for case in cases:
        if case.songs >= AT_SONGS and case.ms_per_song_stage > MOST_MS:
            told.append(f"{case.songs} songs: {case.ms_per_song_stage:.2f} ms of CPU per song and stage, > {MOST_MS:g}")
        if case.tasks_per_stage_batch > MOST_TASKS:
            told.append(f"{case.songs} songs: {case.tasks_per_stage_batch:.2f} task runs per stage and batch, > 1")
        if case.scan_rows >= SCAN_ROWS and case.scan_seconds > MOST_SCAN_SECONDS:
            told.append(f"scan of {case.scan_rows} rows took {case.scan_seconds:.1f} s, > {MOST_SCAN_SECONDS:g}")
    slope = exponent(cases)
    if slope > MOST_EXPONENT:
        told.append(f"CPU grows like songs^{slope:.2f}, > {MOST_EXPONENT:g}")
    return told


def to_json(case: ScaleCase) -> str:
    derived = {"ms_per_song_stage": case.ms_per_song_stage, "tasks_per_stage_batch": case.tasks_per_stage_batch}
    return json.dumps(asdict(case) | {name: round(value, 4) for name, value in derived.items()})


def table_of(cases: Sequence[ScaleCase]) -> Table:
    """A column for each library."""
    table = Table("", *(f"{case.songs:,} songs" for case in cases))
    rows = {
        "CPU ms per song and stage": [f"{case.ms_per_song_stage:.2f}" for case in cases],
        "client CPU, s": [f"{case.client_cpu:.0f}" for case in cases],
        "server CPU, s (idling apart)": [f"{case.server_cpu:.0f} ({case.server_idle:.0f})" for case in cases],
        "nothing left to do, CPU s": [f"{case.again_cpu:.0f}" for case in cases],
        "wall, s": [f"{case.seconds:.0f}" for case in cases],
        "task runs (flow runs)": [f"{case.task_runs} ({case.flow_runs})" for case in cases],
        "task runs per stage and batch": [f"{case.tasks_per_stage_batch:.2f}" for case in cases],
        "server database, MB": [f"{case.database_bytes / 1e6:.1f}" for case in cases],
        "ledger, MB (files)": [f"{case.ledger_bytes / 1e6:.1f} ({case.ledger_files})" for case in cases],
        "scan of a stage, CPU s": [f"{case.scan_seconds:.2f}" for case in cases],
        "memory peak, MB (server)": [f"{case.client_peak / 1e6:.0f} ({case.server_peak / 1e6:.0f})" for case in cases],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table


def draw(cases: Sequence[ScaleCase], path: Path) -> None:
    """CPU over songs with the line that fits it, on logarithmic axes, and how far each case lies off the line.

    The suffix chooses PNG or SVG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.5), layout="constrained")
    axes, below = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    ordered = sorted(cases, key=lambda case: case.songs)
    songs, line = [case.songs for case in ordered], fit(ordered)
    for name, values in {
        "client and server": [case.cpu for case in ordered],
        "client": [case.client_cpu for case in ordered],
        "server": [case.server_cpu for case in ordered],
        "nothing left to do": [case.again_cpu for case in ordered],
    }.items():
        axes.loglog(songs, values, marker="o", label=name)
    if line is not None:
        between = np.geomspace(songs[0], songs[-1])
        label = f"{line.fixed:.1f} s + {1e3 * line.per_song:.2f} ms a song"
        axes.plot(between, line.fixed + line.per_song * between, "k:", label=label)
        below.stem(songs, [100 * share for share in line.residuals])
    axes.set(ylabel="CPU s", title=f"Overhead of a build: CPU grows like songs^{exponent(cases):.2f}")
    below.set(xlabel="songs", ylabel="off the line, %")
    axes.legend()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
