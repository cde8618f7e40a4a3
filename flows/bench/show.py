"""The bench as tables that a person reads."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.table import Table

from flows.bench.codec import Heard, mean, together
from flows.bench.table import Bar, Row
from pipeline.codec.evaluate import FIGURES, intervals, summary

SIGNS = {"higher": "≥", "lower": "≤"}


def table_of(rows: Sequence[Row]) -> Table:
    """One line a row; the last column says how it stands to what is demanded."""
    table = Table("stage", "measure", "value", "95 % interval", "n", "naive", "must", "aim", "", "CPU s per min")
    for row in rows:
        table.add_row(
            row.stage,
            row.measure,
            number(row.value),
            "" if math.isnan(row.low) else f"{number(row.low)} to {number(row.high)}",
            str(row.n),
            f"{number(row.baseline)} {row.baseline_name}".strip() if row.baseline_name else "",
            bar(row.must, row),
            bar(row.aim, row),
            standing(row),
            number(row.seconds_per_minute),
        )
    return table


def standing(row: Row) -> str:
    """``aim``, ``pass``, ``FAIL``, or nothing where nothing is demanded."""
    if row.reaches_aim and row.passes is not False:
        return "aim"
    return {None: "", True: "pass", False: "FAIL"}[row.passes]


def bar(limit: Bar | None, row: Row) -> str:
    if limit is None:
        return ""
    if isinstance(limit, tuple):
        return f"{number(limit[0])} to {number(limit[1])}"
    return f"{SIGNS[row.better]} {number(limit)}"


def number(value: float) -> str:
    """Four digits that count; thousands as whole numbers."""
    if math.isnan(value):
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 1 else f"{value:.3f}"


def codec_table(heard: Mapping[str, Heard]) -> Table:
    """Each figure of each group between the naive copy and the ceiling, then what is counted over everything."""
    table = Table("group", "figure", "value", "95 % interval", "clips", "another clip", "ceiling: true mel -> wave")
    parts = dict(heard) | ({"all": together(heard)} if len(heard) > 1 else {})
    for name, group in parts.items():
        spans, values = intervals(group.clips), mean([clip.figures for clip in group.clips])
        top, floor = mean(group.ceiling), mean(group.naive)
        for figure in FIGURES:
            if not math.isnan(values[figure]):
                span = " to ".join(map(number, spans[figure]))
                clips = sum(not math.isnan(clip.figures[figure]) for clip in group.clips)
                cells = (number(values[figure]), span, str(clips), number(floor[figure]), number(top[figure]))
                table.add_row(name, figure, *cells)
    for figure, value in counted(together(heard)).items():
        table.add_row("all", figure, number(value))
    return table


def counted(group: Heard) -> dict[str, float]:
    total = asdict(summary(group.clips))
    return {name: total[name] for name in ("codes", "perplexity", "tokens", "encode_x", "decode_x")}


def codec_json(heard: Mapping[str, Heard]) -> dict[str, object]:
    """The figures over all clips at the top; ``intervals``, ``ceiling``, ``naive`` and ``groups`` below."""
    everything = together(heard)
    return _plain(everything) | {"groups": {name: _plain(group) for name, group in heard.items()}}


def _plain(group: Heard) -> dict[str, object]:
    spans = intervals(group.clips)
    return {
        **_numbers(asdict(summary(group.clips))),
        "intervals": {name: None if math.isnan(low) else [low, high] for name, (low, high) in spans.items()},
        "ceiling": _numbers(mean(group.ceiling)),
        "naive": _numbers(mean(group.naive)),
    }


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
