"""A run at a glance: what its journal says, as one picture beside it.

Conventions: x is the optimiser step of the whole run; dashed lines are where a stage begins.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from model import journal
from model.journal import Scalar

PICTURE = "training.png"
Lines = Sequence[dict[str, Scalar]]
INK, GRID = "#1f2937", "#e5e7eb"
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed")
PANELS: dict[str, dict[str, str]] = {  # title -> key of the journal -> label
    "loss, nats": {"cml": "masked codes", "rtd": "discriminator"},
    "held-out likelihood, nats a code": {
        "val_nll": "all frames", "val_nll_sung": "while somebody sings", "val_nll_silent": "without a voice",
    },
    "masked codes predicted right, by mask ratio": {
        f"masked_accuracy_{low}_{low + 20}": f"{low}-{low + 20} %" for low in range(0, 100, 20)
    },
    "discriminator": {
        "rtd_auc": "area under ROC", "rtd_balanced_accuracy": "balanced accuracy",
        "rtd_replaced_share": "share replaced",
    },
    "gradient norm, before clipping": {"grad_norm": ""},
    "codes a second": {"tokens_per_second": ""},
}  # fmt: skip


def draw(folder: Path) -> Path | None:
    """`training.png` of a run's folder, replaced in one step; `None` where the journal says nothing yet."""
    lines = journal.read(folder)
    if not lines:
        return None
    figure = Figure(figsize=(13.0, 6.6), dpi=100, layout="constrained")
    for axes, (title, keys) in zip(figure.subplots(2, 3).flat, PANELS.items(), strict=True):
        _panel(axes, title, keys, lines)
    last = lines[-1]
    figure.suptitle(f"step {last['step']}, {last['stage']}", x=0.01, ha="left", fontsize=11, color=INK)
    draft = folder / f".{PICTURE}"
    figure.savefig(draft, format="png", metadata={"Software": None})
    return draft.replace(folder / PICTURE)


def _panel(axes: Axes, title: str, keys: dict[str, str], lines: Lines) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    shown = False
    for (key, label), colour in zip(keys.items(), COLOURS, strict=False):
        points = [(float(line["step"]), float(line[key])) for line in lines if key in line]
        shown = shown or bool(points)
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, lw=1.6, label=label, marker=_marker(len(points)), ms=3)
    for before, after in pairwise(lines):
        if before["stage"] != after["stage"]:
            axes.axvline(float(before["step"]), color=INK, lw=0.8, ls="--", alpha=0.5)
    if not shown:
        axes.text(0.5, 0.5, "nothing yet", ha="center", va="center", transform=axes.transAxes, color="#9ca3af")
    elif any(keys.values()):
        axes.legend(frameon=False, fontsize=8)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _marker(points: int) -> str:
    """Few points are shown as such."""
    return "o" if points < 12 else ""
