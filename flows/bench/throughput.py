"""Audio in: decode, resample, loudness and features, each against the obvious librosa way on the same file in one run.

Conventions: a round does everything once with ours and once with theirs, the one that begins changing from round to
round; times are CPU seconds of this process, all threads; a ratio is theirs over ours, so 2 is twice as fast. Intervals
are Student's t on the logarithms of the rounds' ratios, 95 %. The first round of each is not counted: it loads code.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from scipy import stats

from pipeline.audio import as_stereo, decode, resample
from pipeline.codec import mel as codec_mel
from pipeline.fingerprint import fingerprint
from pipeline.jit import librosa
from pipeline.loudness import LoudnessConfig, gain_db
from pipeline.quality import spectrum as quality_spectrum
from pipeline.quality.spectrum import FLOOR_QUANTILE, FRAME_SECONDS
from pipeline.structure.spectra import analyse
from pipeline.types import Audio

RATE, TARGET = 44_100, 48_000  # Hz of the files; of the stems that come of them
FILES: Mapping[str, tuple[str, str]] = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
AS_FAST = 1.0  # what the interval's lower end must reach
DETECTION_RATE = 16_000  # Hz
Mono = NDArray[np.float32]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of work, done both ways."""

    what: str
    ours: Callable[[], object]
    theirs: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Compared:
    """How long it takes, side by side."""

    what: str
    rounds: int
    ours_speed: float  # x real time of CPU, median round
    theirs_speed: float
    ratio: float  # geometric mean
    low: float  # of its interval
    high: float
    passed: bool


def run(folder: Path, seconds: float, rounds: int, show: Progress) -> Iterator[Compared]:
    """Every case on a song of so many seconds, written into `folder` in every format."""
    torch.set_num_threads(1)
    cases = list(cases_of(folder, song(seconds)))
    for done, case in enumerate(cases, start=1):
        yield compared(case, seconds, rounds)
        show(done, len(cases))


def song(seconds: float) -> Audio:
    """Stereo with a spectrum and a level like music's: steps of chords over noise that falls by 6 dB an octave."""
    draw = np.random.default_rng(0)
    at = np.arange(round(seconds * RATE)) / RATE
    beat = (2 * at).astype(int)
    pitch = 110.0 * 2 ** (draw.integers(0, 36, (3, beat[-1] + 1)) / 12)
    notes = sum(np.sin(2 * np.pi * np.cumsum(voice[beat]) / RATE) for voice in pitch)
    noise = np.cumsum(draw.normal(size=(2, at.size)), axis=1)
    noise = np.diff(noise, axis=1, prepend=0.0) * 0.02 * (1 + np.sin(4 * np.pi * at))
    samples = 0.15 * notes * np.exp(-2 * (at % 0.5)) * np.array([[1.0], [0.8]]) + noise
    return Audio(samples.astype(np.float32), RATE)


def cases_of(folder: Path, audio: Audio) -> Iterator[Case]:
    paths = {name: folder / f"song.{name}" for name in FILES}
    for name, path in paths.items():
        write(path, audio, *FILES[name])
        yield _decoding(name, str(path))
    for name in ("flac", "mp3"):
        yield _decoding_at(name, str(paths[name]))
    yield _resampling(audio)
    yield Case("loudness", lambda: gain_db(audio, LoudnessConfig()), lambda: librosa_gain(audio.samples))
    mono = audio.mono().samples[0]
    yield Case("input of detection", lambda: input_of_detection(audio), lambda: librosa_mono(audio, DETECTION_RATE))
    yield Case("spectra of quality", lambda: quality_spectrum.analyse(mono, RATE), lambda: librosa_spectra(mono))
    yield Case("features of the codec", lambda: mel_of_codec(audio), lambda: librosa_mel(audio))
    yield Case("features of structure", lambda: analyse(audio), lambda: librosa_mel_and_chroma(audio))
    yield Case("fingerprint against features of structure", lambda: fingerprint(audio), lambda: analyse(audio))


def _decoding(name: str, path: str) -> Case:
    return Case(f"decode {name}", lambda: decode(path), lambda: librosa.load(path, sr=None, mono=False))


def _decoding_at(name: str, path: str) -> Case:
    return Case(
        f"decode {name} to 48 kHz stereo",
        lambda: as_stereo(resample(decode(path), TARGET)),
        lambda: librosa.load(path, sr=TARGET, mono=False),
    )


def _resampling(audio: Audio) -> Case:
    return Case(
        "resample 44.1 to 48 kHz",
        lambda: resample(audio, TARGET),
        lambda: librosa.resample(audio.samples, orig_sr=RATE, target_sr=TARGET),
    )


def input_of_detection(audio: Audio) -> Audio:
    """What its models hear. Their own features lie behind one call of a C library: nothing to compare."""
    return resample(audio.mono(), DETECTION_RATE)


def librosa_mono(audio: Audio, rate: int) -> Mono:
    heard: Mono = librosa.resample(librosa.to_mono(audio.samples), orig_sr=RATE, target_sr=rate)
    return heard


def librosa_spectra(mono: Mono) -> tuple[Mono, Mono]:
    """Each bin's mean and floor, from frames as quality has them. For clipping and hum librosa has no way."""
    size = 2 * round(FRAME_SECONDS * RATE / 2)
    power = np.abs(librosa.stft(mono, n_fft=size, hop_length=size, center=False)) ** 2
    return power.mean(axis=1), np.quantile(power, FLOOR_QUANTILE, axis=1)


def librosa_gain(samples: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
    """The loudness rule from librosa's frame levels."""
    config = LoudnessConfig()
    power = float(np.mean(librosa.feature.rms(y=samples) ** 2))
    peak = float(np.abs(samples).max())
    return min(config.rms - 10 * math.log10(power), config.peak - 20 * math.log10(peak))


def mel_of_codec(audio: Audio) -> torch.Tensor:
    samples = torch.from_numpy(codec_mel.to_24k(audio))
    return codec_mel.log_mel(samples, len(samples) // codec_mel.SAMPLES_PER_CODE)


def librosa_mel(audio: Audio) -> object:
    """The same bands with librosa."""
    mono = librosa_mono(audio, codec_mel.SAMPLE_RATE)
    mel = librosa.feature.melspectrogram(
        y=mono, sr=codec_mel.SAMPLE_RATE, n_fft=codec_mel.N_FFT, hop_length=codec_mel.HOP, power=1.0,
        n_mels=codec_mel.BANDS, fmin=codec_mel.LOWEST, fmax=codec_mel.HIGHEST, htk=True,
    )  # fmt: skip
    return np.log(np.maximum(mel, codec_mel.FLOOR))


def librosa_mel_and_chroma(audio: Audio) -> object:
    """What librosa has for beats and harmony, at the same rates and windows."""
    mono = librosa_mono(audio, 22_050)
    mel = librosa.feature.melspectrogram(y=mono, sr=22_050, n_fft=2048, hop_length=441, n_mels=64)
    return librosa.power_to_db(mel), librosa.feature.chroma_stft(y=mono, sr=22_050, n_fft=8192, hop_length=2205)


def write(path: Path, audio: Audio, container: str, subtype: str) -> None:
    with soundfile.SoundFile(path, "w", audio.sample_rate, audio.channels, subtype, format=container) as file:
        for begin in range(0, audio.length, 65_536):  # libsndfile's Vorbis writer overflows on one long call
            file.write(audio.samples.T[begin : begin + 65_536])


def compared(case: Case, seconds: float, rounds: int) -> Compared:
    """Both ways in turn, `rounds` times after one that is not counted; `ValueError` for less than two."""
    if rounds < 2:
        raise ValueError(f"{rounds} rounds give no interval; take 2 or more")
    times: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        if number % 2:
            ours, theirs = _spent(case.ours), _spent(case.theirs)
        else:
            theirs, ours = _spent(case.theirs), _spent(case.ours)
        times.append((ours, theirs))
    both = np.array(times[1:])
    logs = np.log(both[:, 1] / both[:, 0])
    margin = float(stats.t.ppf(0.975, rounds - 1)) * float(logs.std(ddof=1)) / math.sqrt(rounds)
    mean, low, high = (math.exp(float(logs.mean()) + side) for side in (0.0, -margin, margin))
    speeds = seconds / np.median(both, axis=0)
    return Compared(case.what, rounds, float(speeds[0]), float(speeds[1]), mean, low, high, low >= AS_FAST)


def _spent(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return max(time.process_time() - begun, 1e-6)


def to_json(result: Compared) -> str:
    return json.dumps(asdict(result))
