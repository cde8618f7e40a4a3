"""The bench of separation: how well stems come back, of real singers over real bands and of rendered songs.

Conventions: SDR is BSS Eval's without any gain or filter allowed, 10 log10(|s|^2 / |s - e|^2) over the whole clip,
both channels; a clip's figure is the mean of the vocal's and the accompaniment's. Singers are laid over the loudest
stretch of their length of every band, both at one RMS: then both stems' errors and powers are the same, so are their
SDRs, and the mixture itself has 0 dB. Naive: the mixture as the estimate of both stems, and the middle as the vocal
(what is alike in both channels) with the difference of the channels as the accompaniment.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.bench.material import Material, Progress
from flows.bench.meter import Meter
from flows.bench.separation_variants import VARIANTS, WHOLE
from flows.bench.table import Row, interval
from pipeline.audio import DecodeLimits, as_stereo, decode, resample, to_samples
from pipeline.separation.stage import SAMPLE_RATE, SeparationConfig, Separator, Stems, build
from pipeline.types import Audio, Samples

LIMITS = DecodeLimits(min_seconds=1.0)
SONG_SECONDS = 40.0  # s of every rendered song, its middle: intro and outro hold no voice
MUST_REAL, AIM_REAL = 11.0, 14.0  # dB
MUST_RENDERED, AIM_RENDERED = 6.0, 10.0  # dB
MUST_SPEED, AIM_SPEED = 8.0, 20.0  # x real time on two threads


@dataclass(frozen=True, slots=True)
class Clip:
    """A mixture whose stems are known, stereo at 48 kHz."""

    vocal: Samples
    accompaniment: Samples

    @property
    def mixture(self) -> Audio:
        return Audio(self.vocal + self.accompaniment, SAMPLE_RATE)


def sdr(reference: Samples, estimate: Samples) -> float:
    """Signal-to-distortion ratio in dB, at most 100; `ValueError` where the reference is silent."""
    signal = float(np.sum(np.square(reference, dtype=np.float64)))
    if signal == 0:
        raise ValueError("the reference is silent: it has no SDR")
    error = float(np.sum(np.square(reference.astype(np.float64) - estimate)))
    return float(10 * np.log10(signal / max(error, 1e-10 * signal)))


def clip_sdr(clip: Clip, stems: Stems) -> float:
    """Mean of both stems' SDRs, dB."""
    return (sdr(clip.vocal, stems.vocal.samples) + sdr(clip.accompaniment, stems.accompaniment.samples)) / 2


def real_clips(singers: Sequence[Path], backings: Sequence[Path]) -> Iterator[Clip]:
    """Every singer over every backing at 0 dB."""
    voices = [_read(path) for path in singers]
    for path in backings:
        band = _read(path)
        for voice in voices:
            part = loudest(band, voice.shape[1])
            sung = voice[:, : part.shape[1]]
            yield Clip(sung, part * np.float32(np.sqrt(np.mean(sung**2) / np.mean(part**2))))


def rendered_clips(songs: Sequence[Path]) -> Iterator[Clip]:
    """The middle of every song, with its true stems."""
    for folder in songs:
        vocal, accompaniment = _read(folder / "vocal.flac"), _read(folder / "accompaniment.flac")
        length = min(to_samples(SONG_SECONDS, SAMPLE_RATE), vocal.shape[1])
        start = (vocal.shape[1] - length) // 2
        yield Clip(vocal[:, start : start + length], accompaniment[:, start : start + length])


def loudest(samples: Samples, length: int) -> Samples:
    """The stretch of that many samples with the most power, on a grid of seconds; all of a shorter recording."""
    power = np.cumsum(np.square(samples, dtype=np.float64).sum(axis=0))
    starts = range(0, max(1, samples.shape[1] - length + 1), SAMPLE_RATE)
    best = max(starts, key=lambda s: float(power[min(s + length, len(power)) - 1] - (power[s - 1] if s else 0.0)))
    return samples[:, best : best + length]


def as_mixture(mixture: Audio) -> Stems:
    """The naive estimate: each stem is the mixture."""
    return Stems(mixture, mixture)


def middle_and_side(mixture: Audio) -> Stems:
    """The other naive estimate: the vocal is what both channels share, the accompaniment what they don't."""
    middle = np.repeat(mixture.samples.mean(axis=0, keepdims=True), 2, axis=0)
    return Stems(Audio(middle, SAMPLE_RATE), Audio(mixture.samples - middle, SAMPLE_RATE))


def measure(material: Material, progress: Progress, separator: Separator | None = None) -> list[Row]:
    """SDR on real and on rendered mixtures, and speed. A kind that the material lacks has no row."""
    chosen = separator or build(SeparationConfig())
    meter, clock = Meter(), _Clock()
    counted = _counting(progress, len(material.singers) * len(material.backings) + len(material.songs))

    def separate(mixture: Audio) -> Stems:
        with meter.timing(mixture.duration), clock:
            return chosen(mixture)

    rows = []
    if material.singers and material.backings:
        found = _scores(real_clips(material.singers, material.backings), separate, counted)
        rows.append(_row("SDR, real singers over real bands, dB, mean", found, np.mean, meter, MUST_REAL, AIM_REAL))
    if material.songs:
        found = _scores(rendered_clips(material.songs), separate, counted)
        text = "SDR, rendered songs, dB, median"
        rows.append(_row(text, found, np.median, meter, MUST_RENDERED, AIM_RENDERED))
    if rows:
        rows.append(_speed(meter, clock, sum(row.n for row in rows)))
    return rows


def ablation(material: Material, progress: Progress, clips: int = 12) -> list[Row]:
    """Every variant of the separator on the first clips of both kinds, beside the one that is used."""
    songs, backings = material.songs[:clips], material.backings[: max(1, clips // max(1, len(material.singers)))]
    kinds = {
        "real": list(real_clips(material.singers, backings)) if material.singers and backings else [],
        "rendered": list(rendered_clips(songs)),
    }
    counted = _counting(progress, sum(map(len, kinds.values())) * len(VARIANTS))
    rows: list[Row] = []
    wholes: dict[str, float] = {}
    for name, make in VARIANTS.items():
        separator = make()
        for kind, known in kinds.items():
            if not known:
                continue
            meter = Meter()

            def separate(mixture: Audio, separator: Separator = separator, meter: Meter = meter) -> Stems:
                with meter.timing(mixture.duration):
                    return separator(mixture)

            found = _scores(known, separate, counted)[:, 0]
            wholes.setdefault(kind, float(found.mean()))  # the first variant is the one in use
            low, high = interval(found)
            measured = f"ablation, {kind} clips, SDR dB, mean: {name}"
            cost = meter.seconds_per_minute
            rows.append(
                Row("separation", measured, float(found.mean()), low, high, len(found), wholes[kind], WHOLE, cost)
            )
    return rows


class _Clock:
    """Adds up time on the clock."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started


def _scores(
    clips: Iterator[Clip] | Sequence[Clip], separate: Callable[[Audio], Stems], counted: Callable[[], None]
) -> np.ndarray:
    """Per clip: the stage, the mixture, middle and side; SDR in dB, [clips, 3]."""
    found = []
    for clip in clips:
        mixture = clip.mixture
        methods = (separate, as_mixture, middle_and_side)
        found.append([clip_sdr(clip, method(mixture)) for method in methods])
        counted()
    return np.array(found, dtype=np.float64)


def _row(
    measure: str, found: np.ndarray, statistic: Callable[[np.ndarray], float], meter: Meter, must: float, aim: float
) -> Row:
    low, high = interval(found[:, 0], statistic)
    naive = {name: float(statistic(found[:, i])) for i, name in ((1, "the mixture itself"), (2, "middle and side"))}
    best = max(naive, key=lambda name: naive[name])
    value, cost = float(statistic(found[:, 0])), meter.seconds_per_minute
    return Row("separation", measure, value, low, high, len(found), naive[best], best, cost, must, aim)


def _speed(meter: Meter, clock: _Clock, count: int) -> Row:
    """On the clock, in whatever this process was given: run it on a quiet machine with two cores."""
    speed = meter.audio_seconds / clock.seconds
    none = float("nan")
    text, cost = "speed on two threads, x real time", meter.seconds_per_minute
    return Row("separation", text, speed, none, none, count, none, "none", cost, MUST_SPEED, AIM_SPEED)


def _counting(progress: Progress, total: int) -> Callable[[], None]:
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return one_more


def _read(path: Path) -> Samples:
    return resample(as_stereo(decode(str(path), LIMITS)), SAMPLE_RATE).samples
