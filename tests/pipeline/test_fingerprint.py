"""Copies of a recording have nearly the same words, whatever was done to the file; other music has not."""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from pipeline.audio import resample
from pipeline.fingerprint import HOP, MOST_ERRORS, SAMPLE_RATE, SKETCH, compare, fingerprint, is_copy, sketch
from pipeline.types import Audio

RATE = 44_100
Wave = NDArray[np.float32]


@cache
def music(seed: int, seconds: float = 20.0, tempo: float = 0.5) -> Wave:
    """[2, samples]: notes of random pitch over random chords, one of each every `tempo` seconds, and some noise."""
    draw = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    beat = (time / tempo).astype(int)
    decay = np.exp(-3 * (time % tempo))
    wave = 0.003 * draw.normal(size=time.size)
    for octave, voices in ((220.0, 2), (440.0, 2), (880.0, 1)):
        for _ in range(voices):
            pitch = octave * 2 ** (draw.integers(0, 12, beat[-1] + 1) / 12)
            phase = 2 * np.pi * np.cumsum(pitch[beat]) / RATE
            wave = wave + decay * sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 5))
    left, right = wave, 0.7 * wave + 0.003 * draw.normal(size=time.size)
    return (np.stack([left, right]) / np.abs(wave).max() * 0.7).astype(np.float32)


def coded(wave: Wave, container: str, subtype: str, level: float) -> Wave:
    buffer = io.BytesIO()
    options = {"bitrate_mode": "CONSTANT"} if container == "MP3" else {}
    with soundfile.SoundFile(
        buffer, "w", RATE, len(wave), subtype, format=container, compression_level=level, **options
    ) as f:
        for begin in range(0, wave.shape[1], 65_536):
            f.write(wave.T[begin : begin + 65_536])
    buffer.seek(0)
    return np.ascontiguousarray(soundfile.read(buffer, dtype="float32", always_2d=True)[0].T)


def at_rate(wave: Wave, rate: int) -> Audio:
    return resample(Audio(wave, RATE), rate)


def brighter(wave: Wave) -> Wave:
    """6 dB more above 1 kHz."""
    high = sosfilt(butter(1, 1000, "high", fs=RATE, output="sos"), wave)
    return (wave + high).astype(np.float32)


CHANGES: dict[str, Callable[[Wave], Audio]] = {
    "mp3 at 56 kbit/s": lambda wave: Audio(coded(wave, "MP3", "MPEG_LAYER_III", 0.9), RATE),
    "mp3 at 320 kbit/s": lambda wave: Audio(coded(wave, "MP3", "MPEG_LAYER_III", 0.0), RATE),
    "Vorbis, small": lambda wave: Audio(coded(wave, "OGG", "VORBIS", 0.95), RATE),
    "48 kHz": lambda wave: at_rate(wave, 48_000),
    "16 kHz": lambda wave: at_rate(wave, 16_000),
    "soft": lambda wave: Audio(wave * np.float32(0.05), RATE),
    "one channel": lambda wave: Audio(wave[1:], RATE),
    "brighter": lambda wave: Audio(brighter(wave), RATE),
    "driven": lambda wave: Audio(np.tanh(3 * wave), RATE),
    "start and end cut": lambda wave: Audio(wave[:, int(3.37 * RATE) : -int(2.11 * RATE)], RATE),
    "an excerpt": lambda wave: Audio(wave[:, int(8.03 * RATE) : int(16.5 * RATE)], RATE),
    "all at once": lambda wave: at_rate(
        coded(np.tanh(2 * brighter(wave))[:1, int(3.37 * RATE) :], "MP3", "MPEG_LAYER_III", 0.8), 22_050
    ),
}


def at_best(one: NDArray[np.uint32], other: NDArray[np.uint32]):
    """The best of all offsets at which 3 s can be compared."""
    offsets = range(48 - len(one), len(other) - 48)
    return min((compare(one, other, offset) for offset in offsets), key=lambda likeness: likeness.errors)


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_recognised_and_shares_the_words_that_it_is_looked_up_by(change: str) -> None:
    wave = music(1)
    first, other = fingerprint(Audio(wave, RATE)), fingerprint(CHANGES[change](wave))
    best = at_best(other, first)
    assert is_copy(other, first, best)
    assert is_copy(first, other, compare(first, other, -best.offset))
    assert len(np.intersect1d(sketch(first).words, sketch(other).words)) >= 8


def test_where_a_copy_begins_is_where_it_was_cut() -> None:
    wave = music(2)
    whole, cut = fingerprint(Audio(wave, RATE)), fingerprint(CHANGES["start and end cut"](wave))
    assert at_best(cut, whole).offset == round(3.37 * SAMPLE_RATE / HOP)


def test_other_songs_in_the_same_style_and_tempo_are_no_copies() -> None:
    songs = [fingerprint(Audio(music(seed), RATE)) for seed in range(10, 15)]
    errors = [at_best(a, b).errors for n, a in enumerate(songs) for b in songs[:n]]
    assert min(errors) > 2 * MOST_ERRORS


def test_two_songs_over_one_loop_are_no_copies() -> None:
    loop = np.tile(music(3, 4.0), 5)
    songs = [fingerprint(Audio(loop + music(seed), RATE)) for seed in (4, 5)]
    assert not is_copy(*songs, at_best(*songs))


def test_another_performance_is_no_copy() -> None:
    """The same notes, four per cent slower."""
    songs = [fingerprint(Audio(music(6, tempo=tempo), RATE)) for tempo in (0.5, 0.52)]
    assert not is_copy(*songs, at_best(*songs))


def test_silence_has_no_words_and_is_like_nothing() -> None:
    wave = music(7)
    silence = np.zeros((2, 20 * RATE), np.float32)
    gap = fingerprint(Audio(np.concatenate([wave, silence, wave], axis=1), RATE))
    inside = slice(int(21 * SAMPLE_RATE / HOP), int(38 * SAMPLE_RATE / HOP))
    assert not gap[inside].any()
    nothing = fingerprint(Audio(silence, RATE))
    assert not nothing.any()
    assert len(sketch(nothing).words) == 0
    assert compare(nothing, gap, 0).errors == 1.0
    assert not is_copy(nothing, nothing, compare(nothing, nothing, 0))


def test_a_song_that_is_shorter_than_a_window_has_no_words() -> None:
    assert len(fingerprint(Audio(music(8, 1.0), RATE))) == 0
    assert compare(fingerprint(Audio(music(8, 1.0), RATE)), np.ones(4, np.uint32), 0).words == 0


def test_an_excerpt_must_be_half_of_the_shorter_song() -> None:
    words = np.random.default_rng(0).integers(1, 2**32, 400, dtype=np.uint32)
    medley = np.concatenate([words[:150], np.random.default_rng(1).integers(1, 2**32, 250, dtype=np.uint32)])
    assert is_copy(words, words[150:350], compare(words, words[150:350], -150))
    assert not is_copy(words[:150], medley[100:], compare(words[:150], medley[100:], -100))
    assert not is_copy(words, medley, compare(words, medley, 0))


def test_a_sketch_is_the_same_choice_of_distinct_words_in_any_order() -> None:
    words = np.random.default_rng(2).integers(1, 2**32, 3000, dtype=np.uint32)
    chosen = sketch(words)
    assert len(chosen.words) == len(set(chosen.words.tolist())) == SKETCH
    assert (words[chosen.frames] == chosen.words).all()
    assert set(sketch(words[::-1].copy()).words.tolist()) == set(chosen.words.tolist())
