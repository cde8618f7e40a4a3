"""The bench of the artifact check: stems with a known bleed, told apart by what the check reads.

Conventions: bleed of x dB puts the other stem's true samples, lowered by x dB, into a stem and takes them from where
they belong, so that both still add up to the mixture; "true" starts from the stems of rendered songs, "separated" from
what the embedded separator makes of their mixture, which bleeds by itself. The figure is the area under the ROC curve
of 6 dB of bleed against 20 dB, over songs. Naive: the size of the correlation between the two stems' samples.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flows.bench.material import Material, Progress
from flows.bench.meter import Meter
from flows.bench.separation import Clip, rendered_clips
from flows.bench.table import Row, interval
from pipeline.separation.artifacts import ArtifactCheck, ArtifactConfig, Artifacts
from pipeline.separation.stage import SAMPLE_RATE, SeparationConfig, Separator, Stems, build
from pipeline.types import Audio, Samples

LITTLE, MUCH = 20.0, 6.0  # dB of bleed
SONGS, SEPARATED = 60, 30  # at most: judged at all, and separated for it; a check listens to 40 s in about a second
MUST, AIM = 0.95, 0.99


def bleeding(clip: Clip, stems: Stems, into: str, decibel: float) -> Stems:
    """`stems` with so much bleed of the clip's true other stem into the ``vocal`` or the ``accompaniment``."""
    source = clip.vocal if into == "accompaniment" else -clip.accompaniment
    moved = source * np.float32(10 ** (-decibel / 20))
    return _stems(stems.vocal.samples - moved, stems.accompaniment.samples + moved)


def area(much: Sequence[float] | NDArray[np.float64], little: Sequence[float] | NDArray[np.float64]) -> float:
    """Chance that a reading of much bleed is above one of little, ties half."""
    differences = np.asarray(much)[:, None] - np.asarray(little)[None]
    return float(np.mean(differences > 0) + np.mean(differences == 0) / 2)


def measure(
    material: Material,
    progress: Progress,
    separator: Separator | None = None,
    check: ArtifactCheck | None = None,
) -> list[Row]:
    """AUC for both directions of bleed, on true and on separated stems; what is kept and what is refused."""
    judge = check or ArtifactCheck(ArtifactConfig())
    split = separator or build(SeparationConfig())
    meter = Meter()
    readings: dict[tuple[str, str], list[list[float]]] = {}
    kept, refused = [], []
    songs = material.songs[:SONGS]
    for done, clip in enumerate(rendered_clips(songs)):
        known = {"true": _stems(clip.vocal, clip.accompaniment)}
        if done < SEPARATED:
            known["separated"] = split(clip.mixture)
        for kind, stems in known.items():
            for into in ("accompaniment", "vocal"):
                found = [_judged(judge, clip, bleeding(clip, stems, into, d), meter) for d in (LITTLE, MUCH)]
                values = [_reading(a, into) for a, _ in found] + [correlation for _, correlation in found]
                readings.setdefault((kind, into), []).append(values)
                if kind == "true":
                    refused.append(float(not found[1][0].keep))
        kept.append(float(judge(clip.mixture, known["true"]).keep))
        progress(done + 1, len(songs))
    if not kept:
        return []
    rows = [_row(kind, into, np.array(values), meter) for (kind, into), values in readings.items()]
    shares = (("true stems kept", kept), (f"stems with {MUCH:.0f} dB of bleed refused", refused))
    return rows + [_share(text, values, meter) for text, values in shares]


def _judged(judge: ArtifactCheck, clip: Clip, stems: Stems, meter: Meter) -> tuple[Artifacts, float]:
    mixture = clip.mixture
    with meter.timing(mixture.duration):
        found = judge(mixture, stems)
    pair = np.corrcoef(stems.vocal.samples.ravel(), stems.accompaniment.samples.ravel())
    return found, abs(float(pair[0, 1]))


def _reading(found: Artifacts, into: str) -> float:
    return found.vocal_leak_db if into == "accompaniment" else found.accompaniment_leak_db


def _row(kind: str, into: str, values: NDArray[np.float64], meter: Meter) -> Row:
    """`values`: per song the readings of little and of much bleed, then the correlations of both."""
    low, high = interval(values[:, :2], lambda v: area(v[:, 1], v[:, 0]))
    text = f"AUC, {LITTLE:.0f} dB against {MUCH:.0f} dB of bleed into the {into}, {kind} stems"
    naive = area(values[:, 3], values[:, 2])
    return Row(
        stage="artifacts",
        measure=text,
        value=area(values[:, 1], values[:, 0]),
        low=low,
        high=high,
        n=len(values),
        baseline=naive,
        baseline_name="correlation",
        seconds_per_minute=meter.seconds_per_minute,
        must=MUST,
        aim=AIM,
    )


def _share(text: str, values: Sequence[float], meter: Meter) -> Row:
    low, high = interval(values)
    cost = meter.seconds_per_minute
    return Row("artifacts", text, float(np.mean(values)), low, high, len(values), 0.5, "a coin", cost)


def _stems(vocal: Samples, accompaniment: Samples) -> Stems:
    return Stems(Audio(vocal, SAMPLE_RATE), Audio(accompaniment, SAMPLE_RATE))
