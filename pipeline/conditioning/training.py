"""Train the head of words and their directions on songs that Backline rendered (`backline conditioning train`).

One learns from songs (musicnn's summary of 20.48 s of a band or a mix -> style, families of instruments), the other
from texts (MiniLM's vectors of `pipeline.conditioning.phrases` -> a direction per word). Hearing a song is the slow
part, three seconds: it is kept in the cache, so that a run which was cut off goes on.

Conventions: seeds below 500000 train; the same songs give the same two files.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audio import decode, to_samples
from pipeline.conditioning.directions import WordVectors
from pipeline.conditioning.families import DRUMS, families
from pipeline.conditioning.fitting import fit_directions, fit_head
from pipeline.conditioning.phrases import about_instrument, about_style
from pipeline.encoders.listener import Heard, Listener
from pipeline.encoders.minilm import MiniLM
from pipeline.encoders.words import WordHead
from pipeline.songs.styles import styles
from pipeline.songs.truth import is_current
from pipeline.types import Audio

logger = logging.getLogger(__name__)
SECONDS = 20.48  # s that are heard at a time; ConditioningConfig.reference_seconds
STRETCHES: Mapping[str, tuple[tuple[str, float], ...]] = {
    "instrumental": (("accompaniment", 0.5),),
    "song": (("mix", 0.5),),
}
"""Stem and place of what is heard of a song: the conditioner hears bands, the annotator songs with their singer."""
SEED_LIMIT = 500_000  # seeds from here on are for tuning and for tests


@dataclass(frozen=True, slots=True)
class Example:
    """What is known of one song, and what was heard in one stretch of it."""

    style: str
    instruments: tuple[str, ...]  # families without the drums
    heard: Heard


def train(
    songs: Sequence[Path], cache: Path, out: Path, progress: Callable[[int, int], None] | None = None
) -> WordHead:
    """Write ``words.safetensors`` and ``directions.safetensors`` into `out` from folders of rendered songs.

    `ValueError` where they hold fewer than two styles.
    """
    examples = listen(songs, cache, progress or (lambda done, total: None))
    heard = np.stack([example.heard.summary() for example in examples])
    head = fit_head(heard, [example.style for example in examples], [example.instruments for example in examples])
    _write(out / "words.safetensors", head.to_bytes())
    _write(out / "directions.safetensors", directions(head.styles, head.instruments).to_bytes())
    return head


def directions(style_names: Sequence[str], instruments: Sequence[str]) -> WordVectors:
    """Directions of the styles among the styles, of the instruments among the instruments."""
    known, encoder = styles(), MiniLM()
    about = [tuple(about_style(name, known[name].words, known[name].moods)) for name in style_names]
    parts = (about, [tuple(about_instrument(name)) for name in instruments])
    vectors = [_fit(encoder, texts) for texts in parts if texts]
    return WordVectors((*style_names, *instruments), np.concatenate(vectors))


def _fit(encoder: MiniLM, about: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    texts = [text for of_word in about for text in of_word]
    word = np.repeat(np.arange(len(about)), [len(of_word) for of_word in about]).astype(np.int64)
    return fit_directions(encoder(texts).astype(np.float64), word, len(about))


def listen(songs: Sequence[Path], cache: Path, progress: Callable[[int, int], None]) -> list[Example]:
    """Examples of folders of rendered songs, `STRETCHES` of each; what is in the cache is not heard again."""
    cache.mkdir(parents=True, exist_ok=True)
    listener, found = Listener(), []
    for done, folder in enumerate(songs, start=1):
        truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
        for stem, place in STRETCHES[truth["kind"]]:
            kept = cache / f"{folder.name}-{stem}-{round(100 * place)}-{listener.weights_sha256[:8]}.npz"
            if not kept.is_file():
                audio = stretch(decode(str(folder / f"{stem}.flac")), SECONDS, place)
                _keep(kept, listener(audio), truth)
            found.append(read_example(kept))
        progress(done, len(songs))
    return found


def _keep(path: Path, heard: Heard, truth: Mapping[str, Any]) -> None:
    programs = [item["program"] for item in truth["instruments"]]
    drums = [item["drums"] for item in truth["instruments"]]
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    told = {"tags": heard.tags, "embedding": heard.embedding, "style": truth["style"]}
    np.savez(partial, programs=programs, drums=drums, **told)
    os.replace(partial, path)


def read_example(path: Path) -> Example:
    """What `listen` keeps of one song."""
    with np.load(path) as kept:
        words = families(kept["programs"].tolist(), kept["drums"].tolist())
        heard = Heard(kept["tags"], kept["embedding"])
        return Example(str(kept["style"]), tuple(word for word in words if word != DRUMS), heard)


def stretch(audio: Audio, seconds: float, place: float) -> Audio:
    """So many seconds at a place from 0 (the start) to 1 (the end); all of the audio where it is shorter."""
    length = min(audio.length, to_samples(seconds, audio.sample_rate))
    start = round(place * (audio.length - length))
    return Audio(np.ascontiguousarray(audio.samples[:, start : start + length]), audio.sample_rate)


def training_songs(folders: Iterable[Path]) -> list[Path]:
    """Finished songs and instrumentals of this renderer with a seed below 500000, sorted; others are left out."""
    found = sorted({path.parent for folder in folders for path in folder.glob("*/truth.json") if is_current(path)})
    truths = [json.loads((folder / "truth.json").read_text(encoding="utf-8")) for folder in found]
    kept = [f for f, t in zip(found, truths, strict=True) if t["seed"] < SEED_LIMIT and t["kind"] != "speech"]
    logger.info("%d of %d songs are for training", len(kept), len(found))
    return kept


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    os.replace(partial, path)
