"""Examples for the refiner: voices over bands, both known, as Spleeter's networks see them.

Conventions: an example is one patch of 512 frames (12 s) at 44.1 kHz, stored as float16; the mask that would leave
the least error is the real part of the vocal's spectrum over the mixture's, [2, T, 1024], and what no such mask can
reach is kept as power per frame. Half of the voices are rendered ones, half are speech recordings, most of them drawn
out and transposed: trained on rendered voices alone, the refiner lost 1.6 dB of SDR on real singers; with speech it
gains 0.4. Speed (so pitch and timbre), spectrum and place are drawn; the bands are the song's own, real music or
another song's. Everything comes from the seed.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from python_stretch.Signalsmith import Stretch
from torch import Tensor

from pipeline.audio import DecodeLimits, as_stereo, decode, resample
from pipeline.errors import BadInput
from pipeline.separation.refiner import maps_of
from pipeline.separation.spleeter import BINS, FRAME, HOP, PATCH, SAMPLE_RATE, SpleeterSeparator
from pipeline.types import Audio, Samples

logger = logging.getLogger(__name__)
BRIEF = DecodeLimits(min_seconds=0.2, min_sample_rate=8000, silence_dbfs=-200.0)  # pauses are welcome
LENGTH = (PATCH - 1) * HOP + FRAME  # samples of an example
FASTEST = 1.2  # a voice is sped up or slowed down by at most this, 3 semitones; ours
TILT = 5.0  # dB, standard deviation of the gain drawn at each of six frequencies; ours
RATIO = 5.0  # dB, voice over band: drawn from -5 to 5; ours
SPOKEN = 0.55  # part of the voices that come from speech; ours
OWN = 0.5  # part of the rendered voices that keep their own band; ours
REAL = 0.7  # part of the other bands that are real music, the rest another song's; ours
PLAIN = 0.3  # part of the speech that is left at its own speed; ours
SLOWEST, FASTEST_SPEECH = 0.35, 0.8  # time factors of the rest; ours
TRANSPOSED = (-4.0, 7.0)  # semitones, of all speech; ours
TARGET_RANGE = (-0.5, 1.5)  # the best mask is cut to this; what is beyond is where the mixture is almost silent


@dataclass(frozen=True, slots=True)
class Example:
    maps: Tensor  # float16 [8, T, 1024]
    power: Tensor  # float16 [2, T, 1024], of the mixture, over its mean
    best: Tensor  # float16 [2, T, 1024]
    rest: Tensor  # float32 [T], power that no mask reaches, in the units of `power`
    vocal: Tensor  # float32 [T], power of the vocal, the same


def make_examples(
    songs: Sequence[Path],
    music: Sequence[Path],
    speech: Sequence[Path],
    count: int,
    seed: int,
    separator: SpleeterSeparator,
    progress: Callable[[int, int], None],
) -> Iterator[Example]:
    """`count` examples from folders of rendered songs, files of music without voices, and of speech."""
    rng = np.random.default_rng(seed)
    per_song, per_track = -(-count // len(songs)), -(-count // (2 * max(1, len(music))))
    own = [pair for song in songs for pair in _excerpts_of_song(song, per_song, rng)]
    real = [excerpt for track in music for excerpt in _excerpts(_read(track), per_track, rng)]
    order = rng.permutation(len(own))[:count]
    bands = [band for _, band in own]
    for done, index in enumerate(order):
        voice, band = own[index]
        spoken = bool(speech) and rng.random() < SPOKEN
        if spoken or rng.random() > OWN:
            voice = _moved(_spoken(speech, rng) if spoken else _sped(voice, rng), rng)
            others = real if real and rng.random() < REAL else bands
            band = others[int(rng.integers(len(others)))]
        yield _example(_tilted(voice, rng), _tilted(band, rng), rng, separator)
        progress(done + 1, count)


def _excerpts_of_song(folder: Path, count: int, rng: np.random.Generator) -> Iterator[tuple[Samples, Samples]]:
    voice, band = _read(folder / "vocal.flac"), _read(folder / "accompaniment.flac")
    for start in _starts(voice, count, 0.5, rng):
        yield voice[:, start : start + LENGTH].copy(), band[:, start : start + LENGTH].copy()


def _excerpts(samples: Samples, count: int, rng: np.random.Generator) -> Iterator[Samples]:
    for start in _starts(samples, count, 0.33, rng):
        yield samples[:, start : start + LENGTH].copy()


def _starts(samples: Samples, count: int, part: float, rng: np.random.Generator) -> list[int]:
    """Where excerpts begin that aren't quieter than that part of the whole's RMS; `count` at most."""
    room = samples.shape[1] - LENGTH
    if room <= 0:
        return []
    loud = part * np.sqrt(np.mean(samples**2))
    drawn = (int(rng.integers(room)) for _ in range(4 * count))
    return [s for s in drawn if np.sqrt(np.mean(samples[:, s : s + LENGTH] ** 2)) > loud][:count]


def _read(path: Path) -> Samples:
    try:
        return resample(as_stereo(decode(str(path))), SAMPLE_RATE).samples
    except BadInput as error:
        logger.warning("%s", error)
        return np.zeros((2, 0), np.float32)


def _sped(voice: Samples, rng: np.random.Generator) -> Samples:
    rate = round(SAMPLE_RATE * float(FASTEST ** rng.uniform(-1, 1)))
    changed = resample(Audio(voice, rate), SAMPLE_RATE).samples
    return np.pad(changed, ((0, 0), (0, max(0, LENGTH - changed.shape[1]))), mode="wrap")[:, :LENGTH]


def _spoken(files: Sequence[Path], rng: np.random.Generator) -> Samples:
    """Recordings one after the other, drawn out so that vowels last as long as sung ones, and transposed."""
    factor = 1.0 if rng.random() < PLAIN else float(rng.uniform(SLOWEST, FASTEST_SPEECH))
    needed = int(LENGTH * factor * 1.05) + FRAME
    pieces: list[NDArray[np.float32]] = []
    while sum(piece.size for piece in pieces) < needed:
        piece = _mirrored(decode(str(files[int(rng.integers(len(files)))]), BRIEF), float(rng.uniform(0.02, 0.3)))
        pieces.append(piece / max(1e-4, float(np.sqrt(np.mean(piece**2)))) * np.float32(rng.uniform(0.05, 0.12)))
    stretch = Stretch()
    stretch.preset(1, SAMPLE_RATE)
    stretch.setTimeFactor(factor)
    stretch.setTransposeSemitones(float(rng.uniform(*TRANSPOSED)))
    drawn = np.asarray(stretch.process(np.concatenate(pieces)[None, :needed]), dtype=np.float32)[:, :LENGTH]
    return np.repeat(np.pad(drawn, ((0, 0), (0, LENGTH - drawn.shape[1]))), 2, axis=0)


def _mirrored(audio: Audio, share: float) -> NDArray[np.float32]:
    """One channel at 44.1 kHz; a telephone's 4 kHz are mirrored upward at `share` of their amplitude."""
    mono = audio.mono().samples
    if audio.sample_rate >= SAMPLE_RATE / 2:
        return np.asarray(resample(Audio(mono, audio.sample_rate), SAMPLE_RATE).samples[0])
    doubled = np.zeros((1, 2 * mono.shape[1]), np.float32)
    doubled[:, ::2] = 2 * mono  # both the band and its image
    whole = resample(Audio(doubled, 2 * audio.sample_rate), SAMPLE_RATE).samples[0]
    band = resample(Audio(mono, audio.sample_rate), SAMPLE_RATE).samples[0]
    length = min(len(whole), len(band))
    return np.asarray(band[:length] + np.float32(share) * (whole[:length] - band[:length]), dtype=np.float32)


def _moved(voice: Samples, rng: np.random.Generator) -> Samples:
    """As it is, or a dry voice in the middle, or one a little to the side."""
    kind = rng.random()
    if kind < 0.3:
        return voice
    place = 0.0 if kind < 0.7 else float(rng.uniform(-0.4, 0.4))
    sides = np.array([[1 - place], [1 + place]], dtype=np.float32)
    return np.asarray(sides * voice.mean(axis=0, keepdims=True), dtype=np.float32)


def _tilted(samples: Samples, rng: np.random.Generator) -> Samples:
    """Through a random smooth equaliser."""
    frequencies = np.fft.rfftfreq(LENGTH, 1 / SAMPLE_RATE)
    drawn = rng.normal(0, TILT, 6)
    gain = np.interp(np.log(np.maximum(frequencies, 20)), np.log([60, 200, 700, 2000, 6000, 12000]), drawn)
    changed: NDArray[np.float64] = np.fft.irfft(np.fft.rfft(samples) * 10 ** (gain / 20), LENGTH)
    return changed.astype(np.float32)


def _example(voice: Samples, band: Samples, rng: np.random.Generator, separator: SpleeterSeparator) -> Example:
    gain = 10 ** (rng.uniform(-RATIO, RATIO) / 20) * np.sqrt(np.mean(band**2) / np.mean(voice**2))
    voice = voice * np.float32(gain)
    with torch.inference_mode():
        mixed, sung = separator.spectra(torch.from_numpy(voice + band)), separator.spectra(torch.from_numpy(voice))
        maps = maps_of(mixed[..., :BINS], *separator.magnitudes(mixed[..., :BINS].abs()), PATCH)
        power = mixed.abs().square()
        level = power.mean()
        ratio = sung / torch.where(power > 1e-9 * level, mixed, torch.ones_like(mixed))
        best = ratio.real[..., :BINS].clamp(*TARGET_RANGE)
        least = power * ratio.imag.square()
        least[..., BINS:] = sung[..., BINS:].abs().square()
        total = sung.abs().square().sum((0, 2)) / level
    return Example(maps.half(), (power[..., :BINS] / level).half(), best.half(), least.sum((0, 2)) / level, total)
