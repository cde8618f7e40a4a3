"""The figures of a report, drawn by matplotlib and handed over as text that goes into the page.

Conventions: charts are inline SVG whose colours are the page's CSS variables, so that they follow light and dark;
pictures of sound are PNG data URIs. Same input, same bytes.
"""

import base64
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from itertools import groupby
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import cm
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from model.evaluation.report_data import FunnelStage, Histogram, MetricPoint
from pipeline.audio import resample
from pipeline.codec.codec import CODEBOOK_SIZE
from pipeline.jit import librosa
from pipeline.types import Audio

INK, MUTED, LINE, GOOD, WARN, MILD, BAD = (f"#00000{i}" for i in range(1, 8))
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", GOOD: "good", WARN: "warn", MILD: "mild", BAD: "bad"}
STYLE: dict[Any, Any] = {  # matplotlib names its settings one by one
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
}
SPECTROGRAM_RATE = 32_000  # Hz; shows up to 16 kHz
SPECTROGRAM_BANDS = 128
SPECTROGRAM_COLUMNS = 900  # pixels; enough for the page's width
SPECTROGRAM_RANGE_DB = 80.0


def funnel_chart(stages: Sequence[FunnelStage]) -> str:
    """One stacked bar per stage: songs kept, rejected, quarantined, failed."""
    with _figure("funnel", 8.6, 0.7 + 0.36 * len(stages)) as figure:
        axes = figure.add_subplot()
        names = [stage.stage for stage in stages]
        left = np.zeros(len(stages))
        parts = {"passed on": GOOD, "rejected": WARN, "quarantined": MILD, "failed": BAD}
        for index, (label, colour) in enumerate(parts.items()):
            width = np.array([(stage.ok, *stage.dropped)[index] for stage in stages], dtype=float)
            if width.any():
                axes.barh(names, width, left=left, color=colour, height=0.66, label=label)
                left += width
        axes.invert_yaxis()
        axes.set_xlabel("songs")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines["left"].set_visible(False)
        if left.any():
            axes.legend(frameon=False, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
        return _svg(figure)


PHASES = {  # of work on a song -> label, colour
    "load": ("loading models", MUTED),
    "decode": ("decoding audio", MILD),
    "read": ("reading stems", WARN),
    "work": ("the work itself", GOOD),
    "write": ("writing", INK),
}


def phases_chart(stages: Sequence[FunnelStage]) -> str:
    """One stacked bar per stage: seconds for a song, by phase."""
    shown = [stage for stage in stages if stage.seen and stage.phases]
    with _figure("phases", 8.6, 0.7 + 0.36 * len(shown)) as figure:
        axes = figure.add_subplot()
        left = np.zeros(len(shown))
        for name, (label, colour) in PHASES.items():
            width = np.array([stage.phases.get(name, 0.0) / stage.seen for stage in shown])
            if width.any():
                axes.barh([s.stage for s in shown], width, left=left, color=colour, height=0.66, label=label)
                left += width
        axes.invert_yaxis()
        axes.set_xlabel("seconds a song")
        axes.spines["left"].set_visible(False)
        if left.any():
            axes.legend(frameon=False, ncols=5, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.1)
        return _svg(figure)


def standalone(svg: str) -> str:
    """A chart as a picture by itself, with the page's light colours: where no page gives its variables any."""
    template = files("model.evaluation").joinpath("report.html").read_text("utf-8")
    colours = re.search(r":root \{(.*?)\}", template, flags=re.DOTALL)
    assert colours is not None
    style = f"<style>svg {{{colours[1]} background: var(--paper); }}</style>"
    return re.sub(r"<svg[^>]*>", lambda found: found.group() + style, svg, count=1)


def histogram_chart(histograms: Sequence[Histogram]) -> str:
    """Small multiples of the scores, the gate as a line, what falls below it in another colour."""
    columns = min(3, len(histograms))
    rows = math.ceil(len(histograms) / columns)
    with _figure("histograms", 8.6, 1.75 * rows) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).flat
        for axes, histogram in zip(grid, histograms, strict=False):
            _histogram(axes, histogram)
        for axes in list(grid)[len(histograms) :]:
            axes.set_visible(False)
        return _svg(figure)


def training_chart(points: Sequence[MetricPoint]) -> str:
    """Losses over steps, one panel per quantity that was logged, stages marked."""
    panels = [
        p for p in (("loss", "cml", "val_nll"), ("rtd",), ("lr",)) if any(n in q.values for n in p for q in points)
    ]
    ratios = [1.7 if panel[0] == "loss" else 1.0 for panel in panels]
    with _figure("training", 8.6, 2.9) as figure:
        grid = figure.subplots(1, len(panels), squeeze=False, width_ratios=ratios)[0]
        for axes, panel in zip(grid, panels, strict=True):
            _stages(axes, points, named=panel is panels[0])
            for name in panel:
                _curve(axes, points, name)
            axes.set_title(TITLES[panel[0]])
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_formatter("{x:g}")
            if len(panel) > 1:
                axes.legend(frameon=False, fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.93))
        return _svg(figure)


def spectrogram(audio: Audio) -> str:
    """A mel spectrogram as a PNG data URI: time to the right, 0 to 16 kHz upwards, 80 dB below its own peak."""
    mono = resample(audio.mono(), SPECTROGRAM_RATE).samples[0]
    hop = max(256, len(mono) // SPECTROGRAM_COLUMNS)
    power = librosa.feature.melspectrogram(
        y=mono, sr=SPECTROGRAM_RATE, n_fft=2048, hop_length=hop, n_mels=SPECTROGRAM_BANDS
    )
    level = 10 * np.log10(np.maximum(power, 1e-10))
    shown = np.clip((level - level.max()) / SPECTROGRAM_RANGE_DB + 1, 0, 1)
    file = io.BytesIO()
    imsave(file, cm.magma(shown[::-1], bytes=True), format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


TITLES = {"loss": "Loss, nats", "rtd": "Replaced-token loss, nats", "lr": "Learning rate"}
LABELS = {"loss": "total", "cml": "masked tokens", "val_nll": "held-out NLL per token", "rtd": "", "lr": ""}
COLOURS = {"loss": MUTED, "cml": GOOD, "val_nll": BAD, "rtd": GOOD, "lr": GOOD}


def _histogram(axes: Axes, histogram: Histogram) -> None:
    edges = np.linspace(histogram.low, histogram.high, 17)
    counts, _ = np.histogram(np.clip(histogram.values, histogram.low, histogram.high), bins=edges)
    below = edges[1:] <= (histogram.gate if histogram.gate is not None else -np.inf)
    colours = [WARN if under else GOOD for under in below]
    axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.92, align="edge", color=colours)
    if histogram.gate is not None:
        axes.axvline(histogram.gate, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        place = axes.get_xaxis_transform()
        axes.annotate(f"gate {histogram.gate:g}", (histogram.gate, 1), (4, -8), place, "offset points", fontsize=8)
    axes.set_ylim(0, 1.25 * max(1, counts.max()))
    axes.set_title(histogram.title)
    axes.set_xlim(histogram.low, histogram.high)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def _stages(axes: Axes, points: Sequence[MetricPoint], named: bool) -> None:
    """A line, and a name, where each stage begins."""
    starts = [(name, next(iter(group)).step) for name, group in groupby(points, key=lambda point: point.stage)]
    for name, step in starts:
        axes.axvline(step, color=LINE, linewidth=1)
        if named:
            axes.annotate(name, (step, 0), (3, 3), axes.get_xaxis_transform(), "offset points", color=MUTED, fontsize=8)


def _curve(axes: Axes, points: Sequence[MetricPoint], name: str) -> None:
    found = [(point.step, point.values[name]) for point in points if name in point.values]
    if not found:
        return
    marker = "o" if name == "val_nll" else ""
    x, y = zip(*found, strict=True)
    axes.plot(x, y, color=COLOURS[name], linewidth=1.4, label=LABELS[name], marker=marker, markersize=3.5)
    if name == "val_nll":
        nothing = math.log(CODEBOOK_SIZE)
        axes.axhline(nothing, color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
        place = axes.get_yaxis_transform()
        text = f"knowing nothing: {nothing:.2f}"
        axes.annotate(text, (1, nothing), (-2, 3), place, "offset points", ha="right", fontsize=8, color=MUTED)


@contextmanager
def _figure(name: str, width: float, height: float) -> Iterator[Figure]:
    """A figure of that many inches in the report's style; its name keeps its element ids apart from other figures'."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        yield Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element in the page's colours and font."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))  # other names repeat from figure to figure
    text = re.sub(r' id="([^"]*)"', lambda found: found.group() if found.group(1) in used else "", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 aria-hidden="true"', text, count=1)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return text
