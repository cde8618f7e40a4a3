"""The listening experiment as a table and as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.table import Table

from flows.bench.listening import Listening
from flows.bench.listening_arms import ANY, OTHER, SHIFTED, TRANSPOSED, TWIN, TWIN_AGAIN, TWIN_OTHER, UNIGRAM, Gain
from flows.bench.listening_songs import SEMITONES, Source

NAMES = {
    TWIN: "the twin, trained with random vocals",
    SHIFTED: "its own vocal, shifted by 2-8 s",
    TRANSPOSED: f"its own vocal, {SEMITONES} semitones higher",
    OTHER: "another song's vocal, same key and tempo",
    ANY: "another song's vocal, whatever key and tempo",
    UNIGRAM: "no model: add-one unigram of the training codes",
    TWIN_OTHER: "the twin: another song's against the true vocal",
    TWIN_AGAIN: "a second twin against the first: training's noise",
}
DEMANDED = (TWIN, SHIFTED, UNIGRAM)  # intervals must leave zero out; TWIN_OTHER's must not
COLOURS = {"dry": "#2563eb", "separated": "#d97706"}


def verdict(gain: Gain, by_arm: Mapping[str, Gain]) -> str:
    """``pass`` or ``FAIL`` where something is demanded, else nothing.

    Of the twin also more than lies between two twins: no interval over songs knows what another training would give.
    """
    if gain.arm in DEMANDED:
        noise = by_arm[TWIN_AGAIN].nats if gain.arm == TWIN and TWIN_AGAIN in by_arm else 0.0
        return "pass" if gain.clear and gain.nats > abs(noise) else "FAIL"
    if gain.arm == TWIN_OTHER:
        return "pass" if gain.none else "FAIL"
    return ""


def table_of(found: Sequence[Listening]) -> Table:
    """One line an arm: what it costs more than the true vocal, for each source of stems."""
    table = Table("instead of the true vocal", *[f"{one.source}: nats a token more" for one in found], "songs", "")
    by_source = _by_source(found)
    for arm, name in NAMES.items():
        cells = [by_source[one.source].get(arm) for one in found]
        shown = [cell for cell in cells if cell is not None]
        if shown:
            verdicts = [verdict(cell, by_source[one.source]) for one, cell in zip(found, cells, strict=True) if cell]
            table.add_row(name, *map(_cell, cells), str(shown[0].songs), " / ".join(verdicts).strip(" /"))
    return table


def _cell(gain: Gain | None) -> str:
    if gain is None:
        return ""
    span = f" ({gain.interval.low:+.4f} to {gain.interval.high:+.4f})" if gain.interval else ""
    return f"{gain.nats:+.4f}{span}"


def draw(found: Sequence[Listening], path: Path) -> None:
    """Points with their intervals on a PNG, one colour a source; right of zero: the true vocal helps.

    Not the unigram: it lies so far off that the rest could not be told apart.
    """
    arms = [arm for arm in NAMES if arm != UNIGRAM]
    figure = Figure(figsize=(8.0, 3.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for number, (source, by_arm) in enumerate(_by_source(found).items()):
        offset = 0.18 * (number - (len(found) - 1) / 2)
        for place, arm in enumerate(arms):
            gain = by_arm.get(arm)
            if gain is None or gain.interval is None:
                continue
            label = source if place == 0 else None
            axes.plot([gain.interval.low, gain.interval.high], [place + offset] * 2, color=COLOURS[source], lw=2)
            axes.plot(gain.nats, place + offset, "o", color=COLOURS[source], label=label)
    axes.axvline(0, color="#888888", lw=1, zorder=0)
    axes.set_yticks(range(len(arms)), [NAMES[arm] for arm in arms])
    axes.invert_yaxis()
    axes.set_xlabel("nats a token more than with the true vocal")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _by_source(found: Sequence[Listening]) -> Mapping[Source, Mapping[str, Gain]]:
    return {one.source: {gain.arm: gain for gain in one.gains} for one in found}
