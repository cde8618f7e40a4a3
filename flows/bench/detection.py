"""The bench of detection: is each file called what it is, and is the voice heard where it sounds?

Conventions: every prompt is judged alone, as long or short as it is, at its own 8 kHz: the limits of `decode` are set
aside, since the detector is measured here. Songs with a form fault count as songs. Frames of 10 ms.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.bench.material import Material, Progress
from flows.bench.meter import Meter
from flows.bench.table import Bar, Row, interval
from pipeline.audio import DecodeLimits, decode, resample
from pipeline.detection.stage import Detection, DetectionConfig, Detector, Kind, build
from pipeline.songs.render import RenderedSong
from pipeline.songs.truth import read_truth
from pipeline.types import Audio, Samples, Span

STAGE = "detection"
ANY = DecodeLimits(min_seconds=0.0, min_sample_rate=8_000)
FRAMES_PER_SECOND = 100
MIX_SECONDS = 12.0  # s of prompts in a row, over music
SPEECH_OVER_MUSIC = 6.0  # dB, of a moderator; ours
KINDS: tuple[Kind, ...] = ("song", "speech", "instrumental")


@dataclass
class _Bench:
    """The detector at work: judges clips and keeps the time."""

    detector: Detector
    progress: Progress
    total: int
    meter: Meter = field(default_factory=Meter)
    done: int = 0

    def judge(self, audio: Audio) -> Detection:
        with self.meter.timing(audio.duration):
            found = self.detector(audio)
        self.done += 1
        self.progress(self.done, self.total)
        return found

    def right(self, clips: Iterable[Audio], kind: Kind) -> list[bool]:
        return [self.judge(audio).kind == kind for audio in clips]


def measure(material: Material, progress: Progress) -> list[Row]:
    """Shares that are called right, on rendered and on real clips, and the accuracy of `vocal_active`."""
    songs = [*material.songs, *(folder for folders in material.faulty.values() for folder in folders)]
    real = len(material.backings) * (len(material.singers) + bool(material.prompts) + 1)
    files = len(songs) + len(material.instrumentals) + len(material.podcasts) + len(material.prompts)
    bench = _Bench(build(DetectionConfig()), progress, files + real)
    heard = [(folder, bench.judge(_read(RenderedSong(folder).mix))) for folder in songs]
    right: dict[Kind, list[bool]] = {
        "song": [found.kind == "song" for _, found in heard],
        "speech": bench.right(_decoded(material.prompts), "speech"),
        "instrumental": bench.right(_decoded(_mixes(material.instrumentals)), "instrumental"),
    }
    podcasts = bench.right(_decoded(_mixes(material.podcasts)), "speech")
    sung: list[bool] = []
    spoken: list[bool] = []
    singers = [_read(path) for path in material.singers]
    for path, talk in zip(material.backings, _talks(material), strict=True):
        backing = _read(path)
        right["instrumental"] += bench.right([backing], "instrumental")
        sung += bench.right((over(singer, backing, 0.0) for singer in singers), "song")
        spoken += bench.right((over(voice, backing, SPEECH_OVER_MUSIC) for voice in talk), "speech")
    active = [balanced_accuracy(folder, found) for folder, found in heard]
    return _rows(right, {"podcasts": podcasts, "sung": sung, "spoken": spoken}, active, bench.meter.seconds_per_minute)


def balanced_accuracy(folder: Path, found: Detection) -> float:
    """Mean of the recalls of frames with and without a voice: lead, background voices and talking alike."""
    truth = read_truth(RenderedSong(folder).truth)
    spans = [Span(note.start, note.end) for note in truth.notes]
    spans += [Span(note.start, note.end) for voice in truth.backing for note in voice.notes]
    spans += [Span(sentence.start, sentence.end) for sentence in truth.speech]
    frames = round(truth.duration * FRAMES_PER_SECOND)
    true = active_frames(spans, frames)
    guess = active_frames(found.vocal_active, frames)
    recalls = [np.mean(guess[true == state] == state) for state in (True, False) if (true == state).any()]
    return float(np.mean(recalls))


def active_frames(spans: Sequence[Span], frames: int) -> NDArray[np.bool_]:
    """Frames of 10 ms that a span covers."""
    active = np.zeros(frames, np.bool_)
    for span in spans:
        active[round(span.start * FRAMES_PER_SECOND) : round(span.end * FRAMES_PER_SECOND)] = True
    return active


def over(voice: Audio, backing: Audio, decibel: float) -> Audio:
    """Mono mix of a voice and the middle of a backing, the voice `decibel` louder (RMS), peak below full scale."""
    band = resample(backing.mono(), voice.sample_rate).samples[0]
    sound = voice.mono().samples[0][: len(band)]
    start = (len(band) - len(sound)) // 2
    band = band[start : start + len(sound)]
    mixed = sound / _rms(sound) + band / _rms(band) * np.float32(10 ** (-decibel / 20))
    return Audio((0.89 * mixed / np.abs(mixed).max())[None].astype(np.float32), voice.sample_rate)


def _talks(material: Material) -> Iterable[list[Audio]]:
    """For each backing prompts in a row, other ones each time; none where there are no prompts."""
    place = 0
    for _ in material.backings:
        pieces: list[Samples] = []
        rate = 1
        while material.prompts and sum(map(len, pieces)) < MIX_SECONDS * rate:
            prompt = _read(material.prompts[place % len(material.prompts)])
            pieces.append(prompt.mono().samples[0])
            rate, place = prompt.sample_rate, place + 1
        yield [resample(Audio(np.concatenate(pieces)[None], rate), 44_100)] if pieces else []


def _rows(right: dict[Kind, list[bool]], others: dict[str, list[bool]], active: list[float], speed: float) -> list[Row]:
    counts = {kind: len(right[kind]) + (len(others["podcasts"]) if kind == "speech" else 0) for kind in KINDS}
    most = max(counts, key=lambda kind: counts[kind])
    bars: dict[Kind, tuple[str, Bar, Bar]] = {
        "song": ("rendered songs called songs", 0.97, 0.995),
        "speech": ("real speech prompts, each alone, called speech", 0.99, 0.995),
        "instrumental": ("instrumentals, rendered and real, called so", 0.97, 0.995),
    }
    rows = [_share(right[kind], name, kind == most, most, speed, bar, aim) for kind, (name, bar, aim) in bars.items()]
    more: dict[str, tuple[str, Kind]] = {
        "podcasts": ("rendered podcasts called speech", "speech"),
        "sung": ("real singers over real backings at 0 dB called songs", "song"),
        "spoken": (f"prompts {SPEECH_OVER_MUSIC:g} dB over real backings called speech", "speech"),
    }
    rows += [_share(others[key], name, kind == most, most, speed) for key, (name, kind) in more.items()]
    low, high = interval(active)
    rows.append(
        Row(
            STAGE, "vocal_active, balanced accuracy of 10 ms frames", _mean(active), low, high, len(active),
            0.5, "a voice throughout", speed,
        )
    )  # fmt: skip
    return [row for row in rows if row.n]


def _share(
    right: list[bool], name: str, is_most: bool, most: Kind, speed: float, must: Bar | None = None,
    aim: Bar | None = None,
) -> Row:  # fmt: skip
    low, high = interval([float(value) for value in right])
    baseline, baseline_name = float(is_most), f"always {most}, the most frequent"
    return Row(STAGE, name, _mean(right), low, high, len(right), baseline, baseline_name, speed, must, aim)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _mixes(folders: Iterable[Path]) -> list[Path]:
    return [RenderedSong(folder).mix for folder in folders]


def _decoded(paths: Iterable[Path]) -> Iterable[Audio]:
    return (_read(path) for path in paths)


def _read(path: Path) -> Audio:
    return decode(str(path), ANY)


def _rms(x: Samples) -> np.float32:
    return np.float32(np.sqrt(np.mean(np.square(x, dtype=np.float64)) + 1e-12))
