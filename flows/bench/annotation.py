"""The annotator on songs whose style and instruments are known, and on given texts that say too much.

Conventions: the whole mix is heard, singing included; instruments count by family (`pipeline.conditioning.families`),
drums left out since nearly every song has them; a style is named where the annotator's threshold is reached.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.bench.material import Material, Progress
from flows.bench.meter import Meter
from flows.bench.table import Row, interval
from pipeline.annotation.stage import AnnotationConfig
from pipeline.annotation.text import clean_text
from pipeline.audio import decode
from pipeline.conditioning.families import DRUMS, families
from pipeline.encoders.listener import Listener
from pipeline.encoders.words import Words

SONGS = 60  # of the clean ones; the whole song is heard, 4 CPU seconds a minute
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Described:
    """Truth and guesses of N songs."""

    style: Array  # [N, S] truth, 0 or 1
    style_guess: Array  # [N, S] probability
    plays: Array  # [N, I] truth, 0 or 1
    plays_guess: Array  # [N, I] probability
    texts: tuple[tuple[str, str, str], ...]  # N: caption of the truth, key, tempo as a number
    seconds_per_minute: float


def measure(material: Material, progress: Progress) -> list[Row]:
    """Rows of styles, instruments and cleaned texts."""
    return rows(listen(material.songs[:SONGS], progress), AnnotationConfig())


def listen(folders: Sequence[Path], progress: Progress) -> Described:
    """Every song through musicnn and the head of words."""
    listener, words, meter = Listener(), Words(), Meter()
    guesses, truths = [], []
    for done, folder in enumerate(folders, start=1):
        audio = decode(str(folder / "mix.flac"))
        with meter.timing(audio.duration):
            guesses.append(words(listener(audio)))
        truths.append(json.loads((folder / "truth.json").read_text(encoding="utf-8")))
        progress(done, len(folders))
    head = words.head
    played = [_families(truth) for truth in truths]
    return Described(
        np.array([[truth["style"] == name for name in head.styles] for truth in truths], dtype=np.float64),
        np.array([guess.styles for guess in guesses]),
        np.array([[name in song for name in head.instruments] for song in played], dtype=np.float64),
        np.array([guess.instruments for guess in guesses]),
        tuple((truth["text"], truth["key"], f"{truth['tempo']:.0f}") for truth in truths),
        meter.seconds_per_minute,
    )


def _families(truth: dict[str, list[dict[str, int]]]) -> set[str]:
    told = truth["instruments"]
    return set(families([i["program"] for i in told], [bool(i["drums"]) for i in told])) - {DRUMS}


def rows(heard: Described, config: AnnotationConfig) -> list[Row]:
    """Every figure of what was heard."""
    return [*_styles(heard, config), *_instruments(heard, config), _cleaned(heard)]


def _styles(heard: Described, config: AnnotationConfig) -> list[Row]:
    likeliest = heard.style_guess.argmax(axis=1)
    right = heard.style[np.arange(len(heard.style)), likeliest]
    named = heard.style_guess.max(axis=1) >= config.style_threshold
    commonest = float(heard.style.mean(axis=0).max())
    found = [
        _row("likeliest style is the true one", right, commonest, "commonest style", heard),
        _row("songs whose style is named", named.astype(np.float64), 1.0, "always", heard),
    ]
    if named.any():
        found.append(_row("named style is the true one", right[named], commonest, "commonest style", heard))
    return found


def _instruments(heard: Described, config: AnnotationConfig) -> list[Row]:
    told = (heard.plays_guess >= config.instrument_threshold).astype(np.float64)
    prior = np.tile(heard.plays.mean(axis=0) >= config.instrument_threshold, (len(heard.plays), 1)).astype(np.float64)
    columns = [k for k in range(heard.plays.shape[1]) if 0 < heard.plays[:, k].sum() < len(heard.plays)]
    precision = [average_precision(heard.plays[:, k], heard.plays_guess[:, k]) for k in columns]
    share = float(heard.plays[:, columns].mean()) if columns else float("nan")
    found = [
        _row("instruments, F1 of a song", f1(heard.plays, told), f1(heard.plays, prior).mean(), "commonest", heard)
    ]
    if columns:
        name = f"instruments, average precision over {len(columns)} families"
        found.append(_row(name, np.array(precision), share, "share of songs", heard))
    return found


def f1(truth: Array, told: Array) -> Array:
    """Per row; 1 where nothing plays and nothing is told."""
    both = truth.sum(axis=1) + told.sum(axis=1)
    return np.where(both > 0, 2 * (truth * told).sum(axis=1) / np.maximum(both, 1), 1.0)


def average_precision(truth: Array, score: Array) -> float:
    """Mean precision at each true item, songs in falling order of the score."""
    hits = truth[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits > 0].mean())


def _cleaned(heard: Described) -> Row:
    """Given texts that also tell singer, tempo and key: is just that gone?"""
    kept = [
        clean_text(f"{text.rstrip('.')}, sung by a woman at {tempo} BPM in {key.replace(':maj', ' major')}.")
        == clean_text(text)
        for text, key, tempo in heard.texts
    ]
    return _row("given texts rid of singer, tempo and key, the rest kept", np.array(kept, float), 0.0, "as is", heard)


def _row(measure: str, values: Array, baseline: float, name: str, heard: Described) -> Row:
    low, high = interval(values)
    value = float(values.mean())
    return Row("annotation", measure, value, low, high, len(values), float(baseline), name, heard.seconds_per_minute)
