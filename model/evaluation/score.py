"""One trained model, measured: generate every test song, score it between floors and ceiling, keep the sound.

Conventions: songs are worked on one at a time, at 48 kHz, as long as their vocal to the sample; every random draw comes
from `EvaluationSettings.seed` and the song's key, so that a song's numbers don't depend on which others are evaluated.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from model.config import SamplerConfig
from model.evaluation import floors, results, rtf, summary
from model.evaluation.frechet import Embeddings
from model.evaluation.measures import Judges, measure, mix, refer
from model.evaluation.nll import HeldOut
from model.evaluation.results import Provenance, Results, SongResult
from model.evaluation.settings import EvaluationSettings
from pipeline.audio import DecodeLimits, rms_dbfs, to_samples, write
from pipeline.codec.codec import SAMPLE_RATE, Codec
from pipeline.errors import BadInput
from pipeline.loudness import LoudnessConfig, gain_db
from pipeline.types import Audio

POOLED = ("truth", "model", "random_codes", "codec")  # what the Fréchet distance compares
logger = logging.getLogger(__name__)
Progress = Callable[[int, int, str], None]
"""Songs done, songs in all, what is being done."""


class Generated(Protocol):
    """What a generator returns, as far as scores go (`model.generate.Generation`)."""

    @property
    def accompaniment(self) -> Audio: ...

    @property
    def seconds(self) -> Mapping[str, float]: ...


class Accompanist(Protocol):
    """Plays along with a vocal (`model.generate.Generator`)."""

    def __call__(
        self, vocal: Audio, text: str | None, reference: Audio | None, sampler: SamplerConfig, seed: int
    ) -> Generated:
        """Audio of exactly the vocal's length."""


@dataclass(frozen=True, slots=True)
class Item:
    """One test song; an empty text is no text.

    What is measured comes from the loaders: the files of a store may hold audio at another level than it has.
    """

    key: str
    vocal: Path  # for players
    accompaniment: Path  # for players
    text: str
    load_vocal: Callable[[], Audio]  # any rate, length and channels
    load_accompaniment: Callable[[], Audio]


@dataclass(frozen=True, slots=True)
class Subject:
    """The model under test and what to call it."""

    generate: Accompanist
    sampler: SamplerConfig
    checkpoint: str
    config_hash: str
    device: str
    loudness: LoudnessConfig = field(default_factory=LoudnessConfig)  # under which its codes were made


@dataclass(frozen=True, slots=True)
class _Song:
    result: SongResult
    embeddings: Mapping[str, Embeddings]


def evaluate(
    items: Sequence[Item],
    subject: Subject,
    judges: Judges,
    settings: EvaluationSettings,
    out_dir: Path,
    held_out: HeldOut | None = None,
    progress: Progress | None = None,
) -> Results:
    """Generate and score all `items`; writes ``generated/<key>.flac``, ``mixes/<key>.flac`` and ``results.json``.

    A song that can't be used (a silent voice) is skipped and named in the results; `BadInput` where that is all of
    them. `ValueError` where there is no item, two items share a key, or the generator misses the vocal's length.
    """
    _check(items)
    songs: list[_Song] = []
    skipped: dict[str, str] = {}
    for index, item in enumerate(items):
        if progress is not None:
            progress(index, len(items), item.key)
        try:
            songs.append(_song(index, items, subject, judges, settings, out_dir, warm=bool(songs)))
        except BadInput as error:
            skipped[item.key] = str(error)
            logger.warning("%s is not evaluated: %s", item.key, error)
    if not songs:
        raise BadInput(f"none of the {len(items)} test songs can be evaluated: {skipped}", "no_test_song")
    found = _results(songs, skipped, subject, judges, settings, held_out)
    results.write(found, out_dir / "results.json")
    if progress is not None:
        progress(len(items), len(items), "scores")
    logger.info("evaluated %d songs: %s", len(songs), "; ".join(found.statements()))
    return found


def _song(
    index: int,
    items: Sequence[Item],
    subject: Subject,
    judges: Judges,
    settings: EvaluationSettings,
    out_dir: Path,
    warm: bool,
) -> _Song:
    item = items[index]
    vocal = _heard(item.key, "vocal", item.load_vocal)
    truth = floors.fit(_heard(item.key, "accompaniment", item.load_accompaniment), vocal.length)
    seed = floors.song_seed(settings.seed, item.key)
    if not warm:
        _warm_up(subject, vocal, settings, seed)
    played, seconds = _generate(item, vocal, subject, seed)
    _keep(out_dir / "generated" / f"{item.key}.flac", played)
    _keep(out_dir / "mixes" / f"{item.key}.flac", mix(vocal, played))
    systems = {"model": played, "truth": truth} | _bounds(
        index, items, vocal, truth, judges.codec, subject.loudness, seed
    )
    reference = refer(vocal, truth, settings)
    values = {name: measure(audio, reference, judges, settings, seed) for name, audio in systems.items()}
    result = SongResult(item.key, item.text, seed, vocal.duration, seconds, values)
    return _Song(result, {name: judges.embed(systems[name]) for name in POOLED})


def _keep(path: Path, audio: Audio) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, audio)


def _heard(key: str, name: str, load: Callable[[], Audio]) -> Audio:
    """A recording at the codec's rate, however short; `BadInput` where there is nothing to hear."""
    audio, limit = load(), DecodeLimits().silence_dbfs
    if audio.length == 0:
        raise BadInput(f"the {name} of {key} holds no audio (0 samples)", "empty")
    if (level := rms_dbfs(audio)) < limit:
        raise BadInput(f"the {name} of {key} is silent: {level:.1f} dBFS RMS, limit {limit} dBFS", "silent")
    return floors.at_48k(audio)


def _warm_up(subject: Subject, vocal: Audio, settings: EvaluationSettings, seed: int) -> None:
    """Play along with the loudest few seconds and throw that away: the first call pays for caches and kernels."""
    samples = min(vocal.length, to_samples(settings.warmup_seconds, SAMPLE_RATE))
    if samples:
        loudest = int(np.abs(vocal.samples).max(axis=0).argmax())
        start = min(max(0, loudest - samples // 2), vocal.length - samples)
        excerpt = Audio(vocal.samples[:, start : start + samples], vocal.sample_rate)
        subject.generate(excerpt, None, None, subject.sampler, seed)


def _generate(item: Item, vocal: Audio, subject: Subject, seed: int) -> tuple[Audio, dict[str, float]]:
    started = time.perf_counter()
    made = subject.generate(vocal, item.text or None, None, subject.sampler, seed)
    total = time.perf_counter() - started
    played = made.accompaniment
    if (played.length, played.sample_rate) != (vocal.length, SAMPLE_RATE):
        raise ValueError(
            f"{item.key}: the generator returned {played.length} samples at {played.sample_rate} Hz for a vocal of "
            f"{vocal.length} at {SAMPLE_RATE}; the lengths must be equal"
        )
    return played, {**made.seconds, rtf.TOTAL: total}


def _bounds(
    index: int,
    items: Sequence[Item],
    vocal: Audio,
    truth: Audio,
    codec: Codec,
    loudness: LoudnessConfig,
    seed: int,
) -> dict[str, Audio]:
    """The floors and the ceiling of one song."""
    # Generation undoes the vocal's gain on its output; random codes get the same level.
    found = {
        "random_codes": floors.random_codes(codec, vocal.length, -gain_db(vocal, loudness), seed, loudness),
        "codec": floors.through_codec(codec, truth, loudness),
    }
    other = floors.partner(index, len(items))
    if other is not None:
        with suppress(BadInput):  # a song whose neighbour can't be used does without this floor
            band = _heard(items[other].key, "accompaniment", items[other].load_accompaniment)
            found["other_song"] = floors.fit(band, vocal.length)
    return found


def _results(
    songs: Sequence[_Song],
    skipped: Mapping[str, str],
    subject: Subject,
    judges: Judges,
    settings: EvaluationSettings,
    held_out: HeldOut | None,
) -> Results:
    systems = [song.result.systems for song in songs]
    pools = {name: [song.embeddings[name] for song in songs] for name in POOLED}
    factors = [rtf.factors(song.result.seconds, song.result.duration) for song in songs]
    scores = summary.per_song_scores(systems, settings, judges.rater_name)
    scores += summary.frechet_scores(pools, settings, judges.embed.name)
    if held_out is not None:
        scores.append(summary.likelihood_score(held_out, settings))
    scores += summary.speed_scores(factors, subject.device)
    return Results(
        tuple(scores),
        tuple(song.result for song in songs),
        rtf.breakdown(factors),
        _provenance(subject, judges, settings),
        skipped,
    )


def _provenance(subject: Subject, judges: Judges, settings: EvaluationSettings) -> Provenance:
    return Provenance(
        checkpoint=subject.checkpoint,
        config_hash=subject.config_hash,
        evaluation_hash=hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12],
        device=subject.device,
        sampler=subject.sampler.model_dump(mode="json"),
        settings=settings.model_dump(mode="json"),
        codec=judges.codec.spec.name,
        codec_sha256=judges.codec.spec.weights_sha256,
        embedder=judges.embed.name,
        embedder_sha256=judges.embed.weights_sha256,
        rater=judges.rater_name,
    )


def _check(items: Sequence[Item]) -> None:
    keys = [item.key for item in items]
    if not keys:
        raise ValueError("no test songs to evaluate: the data set's test split is empty")
    if len(set(keys)) != len(keys):
        raise ValueError(f"test songs share keys: {sorted(k for k in set(keys) if keys.count(k) > 1)}")
