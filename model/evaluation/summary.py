"""Per-song measurements -> scores with intervals, floors, ceiling and a verdict against each floor.

Conventions: verdicts compare song by song (paired), so that songs on which everything scores low cancel out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from model.evaluation import frechet, intervals
from model.evaluation.frechet import Embeddings
from model.evaluation.intervals import Better
from model.evaluation.nll import HeldOut
from model.evaluation.results import FLOORS, Floor, Score
from model.evaluation.rtf import GENERATION, TOTAL
from model.evaluation.settings import EvaluationSettings

Systems = Mapping[str, Mapping[str, float]]  # system -> metric -> value


@dataclass(frozen=True, slots=True)
class Metric:
    """How one metric is named and read."""

    name: str
    label: str
    group: str
    unit: str
    better: Better | None
    note: str = ""
    resolution: float = 0.001  # a smaller gap is no difference, however certain
    of_truth: bool = True  # False where the true accompaniment is the reference itself


TIMING, HARMONY, SOUND, QUALITY, SPEED, LANGUAGE = (
    "Timing",
    "Harmony",
    "Sound",
    "Quality of the mix",
    "Speed",
    "Prediction",
)
PER_SONG = (
    Metric("onset_f1", "Onset F1 against the true accompaniment", TIMING, "0..1", "higher", of_truth=False),
    Metric("onset_f1_vocal", "Onset F1 against the vocal", TIMING, "0..1", "higher"),
    Metric("chroma_framewise", "Chroma cosine, frame by frame", HARMONY, "0..1", "higher", of_truth=False),
    Metric(
        "chroma_song",
        "Chroma cosine, whole song",
        HARMONY,
        "0..1",
        "higher",
        "Nearly blind: noise scores high, order is ignored.",
        of_truth=False,
    ),
)
SINGING = Metric(
    "singing_share",
    "Singing heard in the accompaniment",
    SOUND,
    "share of time",
    None,
    "A check, not a contest: compare it with the true accompaniment.",
)


def per_song_scores(songs: Sequence[Systems], settings: EvaluationSettings, rater: str = "") -> list[Score]:
    """Every metric that is a mean over songs; metrics that no song could be measured on are left out."""
    names = dict.fromkeys(name for song in songs for name in song["model"] if name.startswith("quality_"))
    notes = {"quality_mean": f"Rated by the backend {rater}."} if rater else {}
    quality = [Metric(n, _quality_label(n), QUALITY, "1..5", "higher", notes.get(n, ""), 0.01) for n in names]
    metrics = (*PER_SONG, *quality, SINGING)
    return [mean_score(m, songs, settings) for m in metrics if any(m.name in song["model"] for song in songs)]


def mean_score(metric: Metric, songs: Sequence[Systems], settings: EvaluationSettings) -> Score:
    """The mean of one metric over the songs that it could be measured on."""
    values = _column(songs, "model", metric.name)
    skipped = len(songs) - len(values)
    note = f"{metric.note} {skipped} songs could not be measured." if skipped else metric.note
    return Score(
        metric.name,
        metric.label,
        metric.group,
        metric.unit,
        metric.better,
        value=fmean(values),
        n=len(values),
        interval=_interval(values, settings),
        interval_kind="bootstrap",
        chance=_mean(songs, "model", f"{metric.name}_chance"),
        floors=_floors(metric, songs, settings),
        ceiling=_mean(songs, "codec", metric.name),
        truth=_mean(songs, "truth", metric.name) if metric.of_truth else None,
        note=note.strip(),
    )


def frechet_scores(
    pools: Mapping[str, Sequence[Embeddings]], settings: EvaluationSettings, embedder: str
) -> list[Score]:
    """FAD of each system's pool against the true accompaniments; none where there are fewer than two frames in all.

    Another song's band is no floor here: its pool is the true accompaniments themselves, in another order.
    """
    if any(sum(map(len, pool)) < 2 for pool in pools.values()):
        return []
    truth, model, noise = pools["truth"], pools["model"], pools["random_codes"]
    distance = frechet.between(truth, model)
    left = frechet.leave_one_out(truth, model)
    floor = frechet.between(truth, noise).value
    gaps = [a - b for a, b in zip(left, frechet.leave_one_out(truth, noise), strict=True)]
    gap = distance.value - floor
    verdict = intervals.judge(gap, intervals.jackknife(gap, gaps, settings.confidence), "lower")
    score = Score(
        "fad",
        "Fréchet audio distance",
        SOUND,
        "squared embedding units",
        "lower",
        value=distance.value,
        n=len(model),
        interval=intervals.jackknife(distance.value, left, settings.confidence),
        interval_kind="jackknife",
        floors=(Floor("random_codes", floor, verdict),),
        ceiling=frechet.between(truth, pools["codec"]).value,
        note=_frames_note(distance, embedder),
    )
    return [score]


def speed_scores(factors: Sequence[Mapping[str, float]], device: str) -> list[Score]:
    """Real-time factors, end to end and generation alone: medians with quartiles."""
    parts = {
        "rtf": ("Real-time factor, end to end", TOTAL),
        "rtf_generation": ("Real-time factor, generation alone", GENERATION),
    }
    found = {name: (label, [f[phase] for f in factors if phase in f]) for name, (label, phase) in parts.items()}
    return [
        Score(
            name,
            label,
            SPEED,
            "s per s of audio",
            "lower",
            value=median(values),
            n=len(values),
            interval=intervals.quartiles(values),
            interval_kind="quartiles",
            note=f"Median on {device}; below 1 is faster than real time.",
        )
        for name, (label, values) in found.items()
        if values
    ]


def likelihood_score(held_out: HeldOut, settings: EvaluationSettings) -> Score:
    """Held-out NLL between the uniform code and the unigram of the training tokens."""
    floors = {"uniform": [held_out.uniform] * len(held_out.model), "unigram": held_out.unigram}
    return Score(
        "nll",
        "Held-out NLL",
        LANGUAGE,
        "nats per token",
        "lower",
        value=fmean(held_out.model),
        n=len(held_out.model),
        interval=_interval(held_out.model, settings),
        interval_kind="bootstrap",
        floors=tuple(
            Floor(name, fmean(values), _paired(held_out.model, values, "lower", settings))
            for name, values in floors.items()
        ),
        note="An upper bound on the NLL by the exact masked-diffusion estimator, the reference slot dropped.",
    )


def _quality_label(name: str) -> str:
    score = name.removeprefix("quality_")
    return "The five together" if score == "mean" else score.replace("_", " ").capitalize()


def _floors(metric: Metric, songs: Sequence[Systems], settings: EvaluationSettings) -> tuple[Floor, ...]:
    if metric.better is None:
        return ()
    found = []
    for system in FLOORS:
        both = [s for s in songs if metric.name in s["model"] and metric.name in s.get(system, {})]
        if both:
            ours, theirs = _column(both, "model", metric.name), _column(both, system, metric.name)
            found.append(
                Floor(system, fmean(theirs), _paired(ours, theirs, metric.better, settings, metric.resolution))
            )
    return tuple(found)


def _paired(
    ours: Sequence[float], theirs: Sequence[float], better: Better, settings: EvaluationSettings, least: float = 0.0
) -> intervals.Verdict:
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    return intervals.judge(fmean(gaps), _interval(gaps, settings), better, least)


def _interval(values: Sequence[float], settings: EvaluationSettings) -> intervals.Interval | None:
    return intervals.bootstrap(values, settings.bootstrap_draws, settings.confidence, settings.seed)


def _column(songs: Sequence[Systems], system: str, name: str) -> list[float]:
    return [song[system][name] for song in songs if name in song.get(system, {})]


def _mean(songs: Sequence[Systems], system: str, name: str) -> float | None:
    values = _column(songs, system, name)
    return float(np.mean(values)) if values else None


def _frames_note(distance: frechet.Distance, embedder: str) -> str:
    sizes = f"{distance.frames_estimate} frames against {distance.frames_reference}"
    counts = f"{embedder}, {sizes}, {distance.dimension} dimensions."
    if distance.enough_frames:
        return counts
    return f"{counts} Too few frames (2 x {distance.dimension} needed): biased upwards, compare only within this table."
