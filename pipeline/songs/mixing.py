"""Mixing: tracks and voices -> two stems whose sum is the mix.

Conventions: 48 kHz float32 [2, samples]; dB RMS is measured over the samples that sound. A `Mix` holds every setting of
one song; the same treatment meets both stems, so that their sum is what the treatment of the mix would give, but for
compression, which hears each stem alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, lfilter, oaconvolve, sosfilt

from pipeline.songs.arranger import Track
from pipeline.songs.score import RATE, Score, stream

PEAK = 0.89  # full scale = 1 (-1 dBFS), the highest peak of mix and stems
BAND_RMS = (-22.0, -17.0)  # dBFS of the accompaniment before the peak rule, ours
SPEECH_RMS = -18.0  # dBFS of a podcast; v2 and earlier gave the like
VOICE_OVER_BAND = (-3.0, 4.0)  # dB, drawn per song; ours: from buried to far in front
HOP = 480  # samples between the gains of a compressor
TONE_CORNER = 1600.0  # Hz, where a tilt turns
SIGNIFICANT = 4  # decimals of settings in the truth
Stereo = NDArray[np.float32]

ROOMS: dict[
    str, tuple[float, float, float, float]
] = {  # factor on the style's seconds, pre-delay s, corner Hz, wetness
    "room": (0.5, 0.004, 5000.0, 0.8),
    "chamber": (0.8, 0.010, 4000.0, 1.0),
    "hall": (1.3, 0.022, 3000.0, 1.1),
    "plate": (0.9, 0.002, 8000.0, 1.0),
    "spring": (0.7, 0.015, 2500.0, 0.9),
}
GRADES: dict[str, tuple[tuple[float, float], float, float]] = {  # band Hz, drive, hiss dBFS: mild, not a fault
    "studio": ((20.0, 20_000.0), 0.0, -120.0),
    "bright": ((30.0, 20_000.0), 0.1, -120.0),
    "tape": ((30.0, 16_500.0), 0.5, -76.0),
    "demo": ((60.0, 15_500.0), 0.3, -78.0),
    "vinyl": ((40.0, 14_500.0), 0.4, -74.0),
}
GRADE_SHARES = (0.4, 0.2, 0.18, 0.1, 0.12)


@dataclass(frozen=True, slots=True)
class Mix:
    """Every setting of one song's mix."""

    grade: str  # of GRADES
    room: str  # of ROOMS
    room_seconds: float
    wet: float  # share of the band, 0..1
    voice_wet: float
    voice_over_band: float  # dB
    backing_under_voice: float  # dB, of each background voice
    voice_pan: float  # -1..1
    echo_beats: float  # 0: no echo
    echo_level: float  # dB below the voice
    voice_tilt: float  # dB from low to high
    band_tilt: float  # dB
    voice_ratio: float  # of the compressor
    band_ratio: float
    width: float  # 0 mono .. 1 as played
    band_level: float  # dBFS
    duck: float  # dB that the band is lowered while somebody talks


def draw_mix(score: Score, seconds: float, wet: float) -> Mix:
    """The settings of a song; `seconds` and `wet` are the style's reverberation."""
    rng = stream(score.seed, "mix")
    kind = str(rng.choice(list(ROOMS)))
    factor, _, _, wetness = ROOMS[kind]
    values = {
        "room_seconds": seconds * factor * rng.uniform(0.7, 1.3),
        "wet": min(0.35, wet * wetness * rng.uniform(0.4, 1.3)),
        "voice_wet": min(0.28, wet * wetness * rng.uniform(0.3, 1.0)),
        "voice_over_band": rng.uniform(*VOICE_OVER_BAND),
        "backing_under_voice": rng.uniform(-12.0, -5.0),
        "voice_pan": rng.choice([0.0, 0.0, 0.0, 1.0]) * rng.uniform(-0.15, 0.15),
        "echo_beats": rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], p=[0.68, 0.08, 0.1, 0.08, 0.06]),
        "echo_level": rng.uniform(-20.0, -11.0),
        "voice_tilt": rng.uniform(-2.0, 2.5),
        "band_tilt": rng.uniform(-3.0, 4.0),
        "voice_ratio": rng.uniform(1.2, 3.5),
        "band_ratio": rng.choice([1.0, rng.uniform(1.1, 2.5)]),
        "width": rng.choice([0.0, rng.uniform(0.5, 1.0), 1.0], p=[0.05, 0.45, 0.5]),
        "band_level": rng.uniform(*BAND_RMS),
        "duck": rng.choice([-60.0, rng.uniform(-14.0, -8.0)], p=[0.35, 0.65]),
    }
    numbers = {name: round(float(value), SIGNIFICANT) for name, value in values.items()}
    return Mix(grade=str(rng.choice(list(GRADES), p=GRADE_SHARES)), room=kind, **numbers)


@dataclass(frozen=True, slots=True)
class Stems:
    """Two stems as 16-bit integers [samples, 2]; the mix is their exact sum."""

    vocal: NDArray[np.int16]
    accompaniment: NDArray[np.int16]

    @property
    def mix(self) -> NDArray[np.int16]:
        return self.vocal + self.accompaniment


def rms(x: NDArray[np.floating]) -> float:
    """RMS over the samples above -50 dB of the peak; 0 for silence."""
    power = np.square(x, dtype=np.float32)
    loud = power > 9e-6 * power.max(initial=0.0)
    count = int(np.count_nonzero(loud))
    return float(np.sqrt(power.sum(where=loud, dtype=np.float64) / count)) if count else 0.0


def room(seed: int, name: str, kind: str, seconds: float) -> Stereo:
    """A stereo impulse response, [2, samples], unit energy: noise that dies away, high frequencies first."""
    rng = stream(seed, f"room of the {name}")
    _, delay, corner, _ = ROOMS[kind]
    samples = max(int(seconds * RATE), int(0.05 * RATE))
    fade = np.exp(-6.9 * np.arange(samples) / samples)
    noise = rng.normal(size=(2, samples)) * fade
    dark = sosfilt(butter(1, corner, fs=RATE, output="sos"), noise, axis=1)
    response = noise * fade + dark
    response[:, : int(delay * RATE)] = 0.0
    return np.asarray(response / np.sqrt((response**2).sum(axis=1, keepdims=True)), dtype=np.float32)


def wet(x: Stereo, response: Stereo, share: float) -> Stereo:
    """`x` with its reverberation, cut at its own length."""
    tail = oaconvolve(x, response, axes=1)[:, : x.shape[1]]
    return np.asarray(np.float32(1 - share) * x + np.float32(share) * tail, dtype=np.float32)


def pan(x: NDArray[np.floating], place: float) -> Stereo:
    """Constant-power balance of [2, samples] or [samples]; `place` -1 left .. 1 right."""
    angle = (place + 1) * np.pi / 4
    gains = np.sqrt(2) * np.array([[np.cos(angle)], [np.sin(angle)]])
    return np.asarray(gains.astype(np.float32) * np.atleast_2d(x).astype(np.float32), dtype=np.float32)


def tilt(x: Stereo, decibel: float) -> Stereo:
    """Highs up and lows down by half of `decibel` each, about `TONE_CORNER`; a first-order shelf."""
    low, high = 10 ** (-decibel / 40), 10 ** (decibel / 40)
    w = np.tan(np.pi * TONE_CORNER / RATE)
    shelf = np.array([[high + low * w, low * w - high], [1 + w, w - 1]], dtype=np.float32) / np.float32(1 + w)
    return np.asarray(lfilter(shelf[0], shelf[1], x, axis=1), dtype=np.float32)


def compress(x: Stereo, ratio: float) -> Stereo:
    """Levels what is louder than the mean: 6 dB more become 6 / `ratio`; attack and release some 30 ms."""
    if ratio <= 1 or not x.any():
        return x
    whole = x.shape[1] // HOP
    power = (x[:, : whole * HOP].reshape(2, whole, HOP) ** 2).mean(axis=(0, 2))
    level = 10 * np.log10(gaussian_filter1d(power, 3.0) + 1e-12)
    threshold = 20 * np.log10(rms(x) + 1e-9) - 3
    gain = 10 ** (-(1 - 1 / ratio) * np.maximum(0.0, level - threshold) / 20)
    steps = np.interp(np.arange(x.shape[1]), np.arange(whole) * HOP + HOP / 2, gain)
    return np.asarray(x * steps, dtype=np.float32)


def grade(x: Stereo, name: str) -> Stereo:
    """The sound of a medium on one stem: its band limits. Drive and hiss come with the levels, in `balance`."""
    (low, high), _, _ = GRADES[name]
    if low <= 20.0 and high >= 20_000.0:
        return x
    limits = np.concatenate([
        butter(1, low, "highpass", fs=RATE, output="sos"), butter(2, high, fs=RATE, output="sos")
    ])  # fmt: skip
    return np.asarray(sosfilt(limits.astype(np.float32), x, axis=1), dtype=np.float32)


def blend(tracks: tuple[Track, ...], audio: list[Stereo], mix: Mix, seed: int) -> Stereo:
    """All instruments at their levels, in one room; each with a tone of its own."""
    rng = stream(seed, "tone")
    total = np.zeros_like(audio[0])
    for track, x in zip(tracks, audio, strict=True):
        level, tone = rms(x), float(rng.uniform(-4.0, 4.0))
        if level > 0:
            total += pan(tilt(x, tone), track.pan * mix.width) * np.float32(10 ** (track.level / 20) / level)
    middle = total.mean(axis=0, keepdims=True)
    total = middle + np.float32(mix.width) * (total - middle)
    total = wet(total, room(seed, "band", mix.room, mix.room_seconds), mix.wet)
    return grade(compress(tilt(total, mix.band_tilt), mix.band_ratio), mix.grade)


def place_voices(lead: NDArray[np.float64], backing: list[NDArray[np.float64]], mix: Mix, score: Score) -> Stereo:
    """Lead and background voices with echo and room, as one stem."""
    total = pan(compress(np.atleast_2d(lead).repeat(2, axis=0).astype(np.float32), mix.voice_ratio), mix.voice_pan)
    level = rms(lead)
    for index, voice in enumerate(backing):
        side = (0.6 if index % 2 else -0.6) * mix.width
        gain = 10 ** (mix.backing_under_voice / 20) * level / rms(voice) if rms(voice) else 0.0
        total += pan(gain * voice, side)
    total = tilt(total, mix.voice_tilt)
    if mix.echo_beats:
        total = _echo(total, round(mix.echo_beats * 60.0 / score.tempo * RATE), mix.echo_level)
    total = wet(total, room(score.seed, "voice", mix.room, mix.room_seconds), mix.voice_wet)
    return grade(total, mix.grade)


def _echo(x: Stereo, delay: int, level: float) -> Stereo:
    """Two repetitions, each `level` dB below the one before, crossed between the sides."""
    out = x.copy()
    gain = np.float32(10 ** (level / 20))
    for number in (1, 2):
        late = number * delay
        if 0 < late < x.shape[1]:
            out[:, late:] += gain**number * (x[::-1] if number % 2 else x)[:, : x.shape[1] - late]
    return out


def balance(vocal: Stereo, band: Stereo, mix: Mix, seed: int) -> Stems:
    """Set the levels, add the medium's hiss to the band, keep every peak below `PEAK`, round to 16 bits."""
    band_gain = 10 ** (mix.band_level / 20) / rms(band) if rms(band) else 0.0
    vocal_gain = 10 ** ((mix.band_level + mix.voice_over_band) / 20) / rms(vocal) if rms(vocal) else 0.0
    _, drive, hiss = GRADES[mix.grade]
    stems = [_soften(vocal * np.float32(vocal_gain), drive), _soften(band * np.float32(band_gain), drive)]
    if hiss > -100 and band_gain:
        stems[1] += _hiss(stream(seed, "hiss"), stems[1].shape[1], hiss)
    peak = max(np.abs(stems[0]).max(), np.abs(stems[1]).max(), np.abs(stems[0] + stems[1]).max(), 1e-9)
    scale = np.float32(32767 * min(1.0, PEAK / float(peak)))
    rounded = [np.rint(x.T * scale).astype(np.int16) for x in stems]
    return Stems(*rounded)


def even(voice: Stereo) -> Stems:
    """A voice alone at -18 dBFS, as podcasts are."""
    size = rms(voice)
    loud = _soften(voice * np.float32(10 ** (SPEECH_RMS / 20) / size), 0.0) if size else voice
    scale = np.float32(32767 * min(1.0, PEAK / max(float(np.abs(loud).max()), 1e-9)))
    samples = np.rint(loud.T * scale).astype(np.int16)
    return Stems(samples, np.zeros_like(samples))


def duck(x: Stereo, start: float, end: float, decibel: float) -> None:
    """Lower [start, end) seconds of `x` in place, with ramps of 0.15 s; -60 dB is silence."""
    ramp = int(0.15 * RATE)
    first, last = int(start * RATE), min(int(end * RATE), x.shape[1])
    low = 10 ** (decibel / 20) if decibel > -60 else 0.0
    places = np.array([first, first + ramp, last - ramp, last])
    x[:, first:last] *= np.interp(np.arange(first, last), places, [1.0, low, low, 1.0]).astype(np.float32)


def _hiss(rng: np.random.Generator, samples: int, level: float) -> Stereo:
    """White noise at `level` dBFS, four seconds of it repeated."""
    loop = rng.normal(size=(2, 4 * RATE)).astype(np.float32) * np.float32(10 ** (level / 20))
    return np.tile(loop, samples // loop.shape[1] + 1)[:, :samples]


def _soften(x: Stereo, drive: float) -> Stereo:
    """Rounds off peaks above 0.45, leaves the rest nearly alone; `drive` adds a little of a tape's third harmonic."""
    knee, height = np.float32(0.45), np.float32(0.4)
    out = x.copy()
    loud = np.abs(x) > knee
    over = (np.abs(x[loud]) - knee) / height
    out[loud] = np.sign(x[loud]) * (knee + height * np.tanh(over))
    return out - np.float32(0.3 * drive) * (out * out * out) if drive else out
