"""The codec on the frozen test set: real singers, real music, rendered voices and bands, between a naive copy and the
ceiling of its own vocoder.

Conventions: definitions of `pipeline.codec.evaluate`; the naive copy of a clip is the next clip of its group; the
ceiling is the true log-mel through the vocoder, which no codes can beat.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flows.bench.material import Material, Progress
from flows.bench.meter import Meter
from flows.bench.table import Bar, Better, Row, interval
from pipeline.audio import decode, resample, to_samples
from pipeline.codec import evaluate as measured
from pipeline.codec.codec import SAMPLE_RATE, Codec, CodecConfig, build
from pipeline.codec.evaluate import CLIP_SECONDS, FIGURES, PEAK, ClipScores, CodecScores
from pipeline.codec.mel import SAMPLE_RATE as MEL_RATE
from pipeline.codec.mel import SAMPLES_PER_CODE, to_24k
from pipeline.types import Audio

RENDERED = 10  # songs whose voice and band are heard, the first of the frozen ones
THREADS = 2  # what a small machine has
TIMED_SECONDS = 60.0  # of one clip a group; ours
NAN = float("nan")
Figures = Sequence[Mapping[str, float]]
ALWAYS, NEVER = "", "\0"  # names that every file starts with, and none


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure, what is demanded of it, and what is aimed at."""

    measure: str
    figure: str  # one of `FIGURES`
    must: Bar
    aim: Bar
    better: Better = "higher"


VOICES = ("real singers", "rendered voices", "voices")  # groups of solo voices
LIMITS = (
    Limit("log-mel L1, nats", "log_mel_l1", 0.56, 0.52, "lower"),
    Limit("chroma cosine", "chroma", 0.83, 0.87),
    Limit("onset F1, 50 ms", "onset_f1", 0.78, 0.85),
    Limit("liveliness (flux ratio)", "flux", (0.75, 1.1), (0.88, 1.05)),
)
VOICE_LIMITS = {
    "real singers": Limit("sung frames in tune, real singers", "in_tune", 0.80, 0.88),
    "rendered voices": Limit("sung frames in tune, rendered singers", "in_tune", 0.90, 0.96),
}
CEILING_LIMITS = (
    Limit("true mel -> wave, log-mel L1, nats", "log_mel_l1", 0.12, 0.08, "lower"),
    Limit("true mel -> wave, sung frames in tune", "in_tune", 0.93, 0.96),
)


@dataclass(frozen=True, slots=True)
class Heard:
    """One group of clips, coded, beside its floor and its ceiling."""

    clips: Sequence[ClipScores]
    ceiling: Figures  # one for each clip, `FIGURES`
    naive: Figures  # the same; empty where the group has one clip


def groups_of(material: Material) -> dict[str, tuple[Path, ...]]:
    """The codec's clips by group; singers and rendered voices are solo voices."""
    songs = material.songs[:RENDERED]
    return {
        "real singers": material.singers,
        "real music": material.backings,
        "rendered voices": tuple(folder / "vocal.flac" for folder in songs),
        "rendered bands": tuple(folder / "accompaniment.flac" for folder in songs),
    }


def listen(codec: Codec, groups: Mapping[str, Sequence[Path]], progress: Progress) -> dict[str, Heard]:
    """Code every clip of every group on two threads; groups without a clip are left out."""
    with threads(THREADS):
        return _listen(codec, groups, progress)


def _listen(codec: Codec, groups: Mapping[str, Sequence[Path]], progress: Progress) -> dict[str, Heard]:
    total, done, found = sum(len(paths) for paths in groups.values()), 0, {}
    for name, paths in groups.items():
        if not paths:
            continue
        start = ALWAYS if name in VOICES else NEVER

        def show(heard: int, _: int, before: int = done) -> None:
            progress(before + heard, total)

        clips = measured.evaluate_clips(codec, paths, start, show)
        used = [clip.path for clip in clips]
        found[name] = Heard(clips, measured.evaluate_vocoder(used, start), _naive(used, name in VOICES))
        done += len(paths)
    return found


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many torch threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def together(heard: Mapping[str, Heard]) -> Heard:
    """All groups as one; every clip counts the same."""
    return Heard(
        tuple(clip for group in heard.values() for clip in group.clips),
        tuple(figures for group in heard.values() for figures in group.ceiling),
        tuple(figures for group in heard.values() for figures in group.naive),
    )


def mean(figures: Figures) -> dict[str, float]:
    """The mean of each of `FIGURES` over the clips that have it; NaN where none has."""
    columns = {name: [clip[name] for clip in figures if not np.isnan(clip[name])] for name in FIGURES}
    return {name: float(np.mean(values)) if values else NAN for name, values in columns.items()}


def measure(material: Material, progress: Progress) -> list[Row]:
    """Rows of the codec's part of the issue's table."""
    codec = build(CodecConfig())
    heard = listen(codec, groups_of(material), progress)
    return rows(heard, cost(codec, [group.clips[0].path for group in heard.values()]))


def cost(codec: Codec, paths: Sequence[Path]) -> float:
    """CPU seconds to encode and decode a minute of audio."""
    meter = Meter()
    for path in paths:
        whole = resample(decode(str(path)), SAMPLE_RATE)
        audio = Audio(whole.samples[:, : to_samples(TIMED_SECONDS, SAMPLE_RATE)], SAMPLE_RATE)
        with meter.timing(audio.duration):
            codec.decode(codec.encode(audio)[0])
    return meter.seconds_per_minute


def rows(heard: Mapping[str, Heard], seconds_per_minute: float) -> list[Row]:
    """One row a figure of the issue's table: over all clips, or of the group that the table names."""
    everything = together(heard)
    limits = [(limit, everything) for limit in LIMITS]
    limits += [(limit, heard[group]) for group, limit in VOICE_LIMITS.items() if group in heard]
    return [
        *(_row(limit, [c.figures for c in group.clips], group.naive, seconds_per_minute) for limit, group in limits),
        *_counts(measured.summary(everything.clips), seconds_per_minute),
        *(_row(limit, everything.ceiling, everything.naive, seconds_per_minute) for limit in CEILING_LIMITS),
    ]


def _row(limit: Limit, clips: Figures, naive: Figures, seconds_per_minute: float) -> Row:
    known = [clip[limit.figure] for clip in clips if not np.isnan(clip[limit.figure])]
    low, high = interval(known)
    return Row(
        stage="codec",
        measure=limit.measure,
        value=mean(clips)[limit.figure],
        low=low,
        high=high,
        n=len(known),
        baseline=mean(naive)[limit.figure],
        baseline_name="another clip",
        seconds_per_minute=seconds_per_minute,
        must=limit.must,
        aim=limit.aim,
        better=limit.better,
    )


def _counts(total: CodecScores, seconds_per_minute: float) -> list[Row]:
    """Figures that are counted over everything, so that they have no interval and no naive method."""
    told = (
        (f"codes used, {total.tokens} tokens", float(total.codes), 5000.0, 7500.0),
        (f"perplexity, {total.tokens} tokens", total.perplexity, 2200.0, 4000.0),
        (f"encode, x real time, {THREADS} threads", total.encode_x, 300.0, 500.0),
        (f"decode, x real time, {THREADS} threads", total.decode_x, 15.0, 40.0),
    )
    return [
        Row("codec", measure, value, NAN, NAN, total.clips, NAN, "", seconds_per_minute, must, aim)
        for measure, value, must, aim in told
    ]


def _naive(paths: Sequence[Path], voice: bool) -> Figures:
    """Each clip against the next one of its group, repeated where it is shorter; none where there is no other."""
    waves = [_middle(path) for path in paths] if len(paths) > 1 else []
    others = [*waves[1:], *waves[:1]]
    return tuple(measured.compare(a, np.resize(b, a.shape), voice) for a, b in zip(waves, others, strict=True))


def _middle(path: Path) -> NDArray[np.float32]:
    """The clip that `pipeline.codec.evaluate` hears, at 24 kHz."""
    wave = to_24k(resample(decode(str(path)), SAMPLE_RATE))
    length = min(len(wave), to_samples(CLIP_SECONDS, MEL_RATE)) // SAMPLES_PER_CODE * SAMPLES_PER_CODE
    start = (len(wave) - length) // 2
    clip = wave[start : start + length]
    peak = float(np.abs(clip).max(initial=0.0))
    return clip * np.float32(PEAK / peak) if peak else clip
