"""The conditioner on songs whose style is known: which song does a text find, which text does a song.

Conventions: a song is heard as the middle 20.48 s of its band, as the conditioner hears a reference; a text about a
style is right if the first song is of that style; texts are those of `flows.bench.paraphrases`, intervals are over
texts (or over songs, where songs look for texts). Chance is that of a random order of the same songs.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.bench.material import Material, Progress
from flows.bench.meter import Meter
from flows.bench.paraphrases import DESCRIBED, FIVE, NAMED
from flows.bench.table import Row, interval
from pipeline.audio import decode, to_samples
from pipeline.conditioning.conditioner import Conditioner, ConditioningConfig, build
from pipeline.types import Audio

FIRST = 5  # songs of a short list
SHUFFLES = 200  # random orders behind a figure of chance
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Heard:
    """Songs as the conditioner hears them, and what is true of them."""

    vectors: Array  # [N, W]
    styles: tuple[str, ...]  # N
    texts: tuple[str, ...]  # N, the caption in each song's truth
    seconds_per_minute: float


def measure(material: Material, progress: Progress) -> list[Row]:
    """Rows of retrieval and of style, among all rendered songs that are sung."""
    conditioner = build(ConditioningConfig())
    folders = [*material.songs, *(folder for folders in material.faulty.values() for folder in folders)]
    return rows(conditioner, listen(conditioner, folders, progress))


def listen(conditioner: Conditioner, folders: Sequence[Path], progress: Progress) -> Heard:
    """One vector a song."""
    meter, vectors, truths = Meter(), [], []
    for done, folder in enumerate(folders, start=1):
        band = middle(decode(str(folder / "accompaniment.flac")), conditioner.spec.reference_seconds)
        with meter.timing(band.duration):
            vectors.append(conditioner.audio(band).astype(np.float64))
        truths.append(json.loads((folder / "truth.json").read_text(encoding="utf-8")))
        progress(done, len(folders))
    styles, texts = (tuple(truth[name] for truth in truths) for name in ("style", "text"))
    return Heard(np.array(vectors), styles, texts, meter.seconds_per_minute)


def middle(audio: Audio, seconds: float) -> Audio:
    """The middle of the audio, all of it where it is shorter."""
    length = min(audio.length, to_samples(seconds, audio.sample_rate))
    start = (audio.length - length) // 2
    return Audio(audio.samples[:, start : start + length], audio.sample_rate)


def rows(conditioner: Conditioner, heard: Heard) -> list[Row]:
    """Every figure of what was heard. `ValueError` where no song is of a style that has texts."""
    there = set(heard.styles)
    groups = {
        "text -> song, 5 styles": queries([NAMED, DESCRIBED], there & set(FIVE)),
        "text -> song, all styles": queries([NAMED, DESCRIBED], there),
        "text -> song, texts that name the style": queries([NAMED], there),
        "text -> song, texts that describe it": queries([DESCRIBED], there),
    }
    if not groups["text -> song, all styles"]:
        raise ValueError(f"no song is of a style with texts; the songs' styles are {sorted(there)}")
    found = []
    for name, texts in groups.items():
        if texts:
            bars = (0.50, 0.90) if "5 styles" in name else (None, None)
            found += _retrieval(conditioner, heard, name, texts, *bars)
    return [*found, _captions(conditioner, heard), _classes(conditioner, heard)]


def queries(tables: Sequence[Mapping[str, Sequence[str]]], styles: set[str]) -> list[tuple[str, str]]:
    """(text, style), for the styles that are asked for."""
    return [(text, style) for table in tables for style in sorted(styles & set(table)) for text in table[style]]


def ranked(conditioner: Conditioner, heard: Heard, texts: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
    """``[texts, songs]``: whether the song at each rank is of the text's style."""
    vectors = conditioner.text([text for text, _ in texts]).astype(np.float64)
    order = np.argsort(-(vectors @ heard.vectors.T), axis=1, kind="stable")
    right = np.array([[style == song for song in heard.styles] for _, style in texts])
    return np.take_along_axis(right, order, axis=1)


def _retrieval(
    conditioner: Conditioner,
    heard: Heard,
    name: str,
    texts: Sequence[tuple[str, str]],
    must: float | None,
    aim: float | None,
) -> list[Row]:
    hits, shuffled = ranked(conditioner, heard, texts), _shuffled(heard, texts)
    bars = {"top 1": (must, aim)}
    return [
        _row(f"{name}: {figure}", of(hits), float(of(shuffled).mean()), "chance", heard, *bars.get(figure, ()))
        for figure, of in FIGURES.items()
    ]


def reciprocal(hits: NDArray[np.bool_]) -> Array:
    """One over the rank of the first hit, over the last axis."""
    return np.asarray(1.0 / (1 + hits.argmax(axis=-1)), dtype=np.float64)


FIGURES: Mapping[str, Callable[[NDArray[np.bool_]], Array]] = {
    "top 1": lambda hits: hits[..., 0].astype(np.float64),
    f"one of the first {FIRST}": lambda hits: hits[..., :FIRST].max(axis=-1).astype(np.float64),
    "mean reciprocal rank": reciprocal,
}


def _shuffled(heard: Heard, texts: Sequence[tuple[str, str]]) -> NDArray[np.bool_]:
    """``[shuffles, texts, songs]`` of random orders."""
    rng, styles = np.random.default_rng(0), np.array(heard.styles)
    orders = [rng.permutation(styles) for _ in range(SHUFFLES)]
    wanted = np.array([style for _, style in texts])
    return np.stack([wanted[:, None] == order for order in orders])


def _captions(conditioner: Conditioner, heard: Heard) -> Row:
    """How far up its own caption puts a song: the share of the other songs that are below it."""
    likeness = conditioner.text(heard.texts).astype(np.float64) @ heard.vectors.T
    below = (likeness < np.diag(likeness)[:, None]).sum(axis=1) / max(1, len(likeness) - 1)
    return _row("its own caption -> song: songs ranked below it", below, 0.5, "chance", heard)


def _classes(conditioner: Conditioner, heard: Heard) -> Row:
    """Which style's text is nearest to a song, mean over one text a style at a time."""
    styles = sorted(set(heard.styles) & set(NAMED))
    right = []
    for number in range(min(len(NAMED[style]) for style in styles)):
        texts = conditioner.text([NAMED[style][number] for style in styles]).astype(np.float64)
        nearest = (heard.vectors @ (texts - texts.mean(axis=0)).T).argmax(axis=1)
        right.append([styles[k] == style for k, style in zip(nearest, heard.styles, strict=True)])
    most = max(heard.styles.count(style) for style in styles) / len(heard.styles)
    return _row(
        f"song -> text, one of {len(styles)} styles",
        np.mean(right, axis=0, dtype=np.float64),
        most,
        "commonest style",
        heard,
    )


def _row(
    measure: str,
    values: Array,
    baseline: float,
    name: str,
    heard: Heard,
    must: float | None = None,
    aim: float | None = None,
) -> Row:
    low, high = interval(values)
    value = float(values.mean())
    return Row(
        "conditioning", measure, value, low, high, len(values), float(baseline), name, heard.seconds_per_minute,
        must, aim,
    )  # fmt: skip
