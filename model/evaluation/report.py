"""One HTML page that a person opens: what came in, what was kept, what was learnt, how it sounds, what it is worth.

Conventions: a single file without scripts, styles or pictures from elsewhere; audio is linked, relative to the page.
Sections without data are left out.
"""

import os
from collections.abc import Callable, Mapping
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from model.evaluation import plots
from model.evaluation.intervals import Verdict
from model.evaluation.report_data import ReportData, SongPanel
from model.evaluation.results import FLOORS, SYSTEM_NAMES, Results, Score, SongResult, System
from model.evaluation.rtf import TOTAL
from model.evaluation.strips import strip
from model.evaluation.units import duration, rate, size
from pipeline.audio import decode

FEW_SONGS = 10  # below it an interval over songs is a hint
MARKS: dict[Verdict, str] = {"beats": "▲ better", "unclear": "≈ unclear", "loses": "▼ worse"}
SONG_METRICS: dict[str, tuple[str, tuple[System, ...]]] = {  # metric -> label, what stands beside it on a song's panel
    "onset_f1": ("Onset F1", ("codec",)),
    "chroma_framewise": ("Chroma", ("codec",)),
    "quality_mean": ("Quality", ("codec", "truth")),
    "singing_share": ("Singing", ("codec", "truth")),
}


def write_report(data: ReportData, path: Path) -> None:
    """Render the page and write it; audio files must already be where `data` says, for their spectrograms are drawn."""
    page = render(data, path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def render(data: ReportData, folder: Path) -> str:
    """The page as text; links are relative to `folder`."""
    template = _environment(folder).from_string(files("model.evaluation").joinpath("report.html").read_text("utf-8"))
    results = data.results
    return template.render(
        data=data,
        verdict=verdict(data),
        caveat=caveat(results) if results else "",
        groups=_groups(results) if results else [],
        tallies=_tallies(results) if results else [],
        song_results={song.key: song for song in results.songs} if results else {},
        funnel_svg=Markup(plots.funnel_chart(data.funnel)) if data.funnel else "",
        phases_svg=Markup(plots.phases_chart(data.funnel)) if any(stage.phases for stage in data.funnel) else "",
        phase_names=plots.PHASES,
        histogram_svg=Markup(plots.histogram_chart(data.histograms)) if data.histograms else "",
        training_svg=Markup(plots.training_chart(data.training)) if data.training else "",
        total=TOTAL,
    )


def verdict(data: ReportData) -> str:
    """The page in one sentence."""
    results = data.results
    if results is None:
        if not data.funnel:
            return "Nothing has been measured yet."
        whole = {stage.stage: stage.ok for stage in data.funnel}
        seen, kept = data.funnel[0].seen, whole.get("tokenization", data.funnel[-1].ok)  # after it only copies come
        return f"{kept} of {_count(seen, 'song')} made it through the pipeline."
    parts = []
    for floor in FLOORS:
        won, judged = results.beaten(floor)
        if judged:
            parts.append(f"{SYSTEM_NAMES[floor]} on {won} of {judged} scores")
    songs = _count(len(results.songs), "unseen song")
    return f"On {songs} the model clearly beats {' and '.join(parts)}."


def caveat(results: Results) -> str:
    """What a reader should hold against the numbers."""
    parts = ["“Clearly” means that the interval of the song-by-song difference leaves zero out."]
    if len(results.songs) < FEW_SONGS:
        parts.append(f"With {_count(len(results.songs), 'song')} every interval is a hint, not a proof.")
    parts.append("A model that trained for minutes may beat few floors; they are here so that nobody has to guess.")
    return " ".join(parts)


def show(score: Score, value: float) -> str:
    """A value with the digits that its unit deserves."""
    digits = {"0..1": 3, "1..5": 2, "share of time": 3, "nats per token": 3}.get(score.unit)
    return f"{value:.{digits}f}" if digits is not None else f"{value:.3g}"


def link(path: Path, folder: Path) -> str:
    """A relative URL of `path` from the page's folder."""
    return quote(Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix())


def _environment(folder: Path) -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    filters: dict[str, Callable[..., object]] = {
        "link": lambda path: link(path, folder),
        "duration": duration,
        "strip": lambda score: Markup(strip(score)),
        "reasons": _reasons,
        "size": size,
        "rate": rate,
    }
    environment.filters |= filters
    environment.globals |= {
        "show": show,
        "marks": MARKS,
        "names": SYSTEM_NAMES,
        "song_scores": song_scores,
        "picture": picture,
    }
    return environment


def picture(path: Path) -> str:
    """The spectrogram of a file, a PNG data URI."""
    return plots.spectrogram(decode(str(path)))


def song_scores(
    panel: SongPanel, found: Mapping[str, SongResult]
) -> list[tuple[str, float, list[tuple[str, str, float]]]]:
    """Label, the model's value, and (short name, name, value) of what stands beside it, for the few scores of a panel.

    The truth through the codec is always there: it is the most that any model on this codec can get.
    """
    if panel.key not in found:
        return []
    systems = found[panel.key].systems
    return [
        (
            label,
            systems["model"][name],
            [(other, SYSTEM_NAMES[other], systems[other][name]) for other in others],
        )
        for name, (label, others) in SONG_METRICS.items()
        if all(name in systems[system] for system in ("model", *others))
    ]


def _groups(results: Results) -> list[tuple[str, list[Score]]]:
    return [(name, list(scores)) for name, scores in groupby(results.scores, key=lambda score: score.group)]


def _tallies(results: Results) -> list[tuple[str, dict[Verdict, int]]]:
    """For each floor that many scores share: how many beat it, are unclear, lose to it."""
    verdicts = {n: [f.verdict for score in results.scores for f in score.floors if f.name == n] for n in FLOORS}
    return [(name, {mark: found.count(mark) for mark in MARKS}) for name, found in verdicts.items() if found]


def _reasons(reasons: Mapping[str, int]) -> str:
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason.replace('_', ' ')} ({count})" for reason, count in ordered)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
