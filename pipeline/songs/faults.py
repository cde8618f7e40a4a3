"""Faults on request, so that the gates have something to find: of the recording (here) and of the form (rendered).

Conventions: every strength has the unit named at its fault; strengths are ordered from mild to strong. A recording
fault is applied to a finished file's audio; a form fault is composed into a song (`render_song(..., fault=...)`).
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt, sosfiltfilt

from pipeline.songs.score import stream
from pipeline.types import Audio, Samples

FormFault = Literal["", "no_chorus", "long_intro", "long_interlude", "speech"]
FORM_FAULTS: tuple[FormFault, ...] = get_args(FormFault)[1:]

RECORDING_FAULTS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "clipping": (3.0, 6.0, 9.0, 12.0, 18.0),  # dB that the peak is driven over the ceiling
        "noise": (45.0, 35.0, 28.0, 20.0, 12.0),  # dB, programme over noise (RMS)
        "hum": (36.0, 28.0, 22.0, 15.0, 8.0),  # dB, programme over mains hum (RMS)
        "low_pass": (14_000.0, 10_000.0, 7_000.0, 5_000.0, 3_500.0),  # Hz, corner of 48 dB an octave
        "mp3": (192.0, 128.0, 96.0, 80.0, 64.0),  # kbit/s, constant bit rate
    }
)
STATED: Mapping[str, float] = MappingProxyType(
    {"clipping": 12.0, "noise": 20.0, "hum": 15.0, "low_pass": 5_000.0, "mp3": 64.0}
)
"""The strength of each recording fault that must fall below the quality gate. Ours; mp3 at 64 kbit/s."""
MP3_RATES = (32_000, 44_100, 48_000)  # Hz: below, LAME writes MPEG-2, whose bit rates end at 160 kbit/s
MP3_BEST, MP3_WORST = 320.0, 32.0  # kbit/s at libsndfile's compression levels 0 and 1
HUM_PARTIALS = ((1, 1.0), (2, 0.5), (3, 0.6), (4, 0.2), (5, 0.3), (7, 0.15))  # of the mains frequency, amplitudes; ours


@dataclass(frozen=True, slots=True)
class _Case:
    audio: Audio
    strength: float
    rng: np.random.Generator

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.audio.samples, dtype=np.float64)))) if self.audio.length else 0.0


def apply_fault(audio: Audio, name: str, strength: float, seed: int) -> Audio:
    """The same audio with one recording fault; same shape and rate, peak within the full scale or the audio's own.

    Deterministic in its arguments. `ValueError` for an unknown name, or for mp3 at another rate than `MP3_RATES`.
    """
    if name not in _FAULTS:
        raise ValueError(f"no recording fault is called {name!r}; there are {', '.join(_FAULTS)}")
    case = _Case(audio, strength, stream(seed, f"fault {name}"))
    faulty = np.asarray(_FAULTS[name](case), dtype=np.float32)
    ceiling = max(1.0, float(np.abs(audio.samples).max(initial=0.0)))
    peak = float(np.abs(faulty).max(initial=0.0))
    return Audio(faulty * np.float32(min(1.0, ceiling / peak)) if peak else faulty, audio.sample_rate)


def _clipping(case: _Case) -> NDArray[np.floating]:
    peak = np.abs(case.audio.samples).max(initial=0.0)
    return np.asarray(np.clip(case.audio.samples * np.float32(10 ** (case.strength / 20)), -peak, peak))


def _noise(case: _Case) -> NDArray[np.floating]:
    """White with a share of low rumble, as a cheap microphone or a worn tape has it."""
    white = case.rng.normal(size=case.audio.samples.shape)
    low = sosfilt(butter(1, 1500, fs=case.audio.sample_rate, output="sos"), white, axis=1)
    return _added(case, white + 1.5 * low)


def _hum(case: _Case) -> NDArray[np.floating]:
    mains = 50.0 if case.rng.random() < 0.5 else 60.0
    time = np.arange(case.audio.length) / case.audio.sample_rate
    phases = case.rng.uniform(0, 2 * np.pi, len(HUM_PARTIALS))
    tones = [
        a * np.sin(2 * np.pi * mains * n * time + phase) for (n, a), phase in zip(HUM_PARTIALS, phases, strict=True)
    ]
    return _added(case, np.sum(tones, axis=0)[None])


def _added(case: _Case, disturbance: NDArray[np.float64]) -> NDArray[np.floating]:
    """The programme with a disturbance `strength` dB below its RMS."""
    size = float(np.sqrt(np.mean(disturbance**2))) if disturbance.size else 0.0
    gain = case.rms * 10 ** (-case.strength / 20) / size if size else 0.0
    return case.audio.samples + gain * disturbance


def _low_pass(case: _Case) -> NDArray[np.floating]:
    corner = min(case.strength, 0.49 * case.audio.sample_rate)
    half = butter(4, corner, fs=case.audio.sample_rate, output="sos")  # forth and back: eighth order, no phase
    return np.asarray(sosfiltfilt(half, case.audio.samples, axis=1))


def _mp3(case: _Case) -> NDArray[np.floating]:
    """There and back through LAME (libsndfile's encoder), same length."""
    if case.audio.sample_rate not in MP3_RATES:
        raise ValueError(f"mp3 takes {MP3_RATES} Hz, got {case.audio.sample_rate}: resample first")
    level = (MP3_BEST - case.strength) / (MP3_BEST - MP3_WORST)
    file = io.BytesIO()
    soundfile.write(
        file, case.audio.samples.T, case.audio.sample_rate, format="MP3", subtype="MPEG_LAYER_III",
        compression_level=level, bitrate_mode="CONSTANT",
    )  # fmt: skip
    file.seek(0)
    decoded: Samples = soundfile.read(file, dtype="float32", always_2d=True)[0].T
    missing = max(0, case.audio.length - decoded.shape[1])
    return np.pad(decoded, ((0, 0), (0, missing)))[:, : case.audio.length]


_FAULTS: Mapping[str, Callable[[_Case], NDArray[np.floating]]] = MappingProxyType(
    {"clipping": _clipping, "noise": _noise, "hum": _hum, "low_pass": _low_pass, "mp3": _mp3}
)
