"""Chroma similarity: which notes are bin 0, what it hears and what it is blind to."""

import numpy as np
import pytest

from model.evaluation.chroma import Chromagram, ChromaScore, chromagram, similarity
from model.evaluation.settings import ChromaConfig
from pipeline.types import Audio

CONFIG = ChromaConfig()
RATE = CONFIG.sample_rate
C, A_MINOR, F, G, F_SHARP = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14), (6, 10, 13))


def tones(semitones: tuple[float, ...], seconds: float) -> np.ndarray:
    """Eight harmonics each, semitones above C4."""
    time = np.arange(int(seconds * RATE)) / RATE
    pitches = [261.6256 * 2 ** (s / 12) for s in semitones]
    waves = [np.sin(2 * np.pi * p * h * time) / h for p in pitches for h in range(1, 9)]
    return (0.05 * np.sum(waves, axis=0)).astype(np.float32)


def chroma_of(signal: np.ndarray) -> Chromagram:
    return chromagram(Audio(signal[None], RATE), CONFIG)


def compare(a: np.ndarray, b: np.ndarray) -> ChromaScore:
    found = similarity(chroma_of(a), chroma_of(b))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def progression() -> np.ndarray:
    return np.concatenate([tones(chord, 2.0) for chord in (C, A_MINOR, F, G) * 2])


def test_bin_0_is_c() -> None:
    top = np.argsort(chroma_of(tones(C, 3.0)).bins.mean(axis=1))[-3:]
    assert sorted(top) == [0, 4, 7]
    assert chroma_of(tones((9,), 3.0)).bins.mean(axis=1).argmax() == 9  # A440


def test_the_further_the_chord_the_lower_the_cosine() -> None:
    c = tones(C, 3.0)
    values = [compare(c, tones(chord, 3.0)).song for chord in (C, A_MINOR, G, F_SHARP)]
    assert values[0] == pytest.approx(1.0)
    assert values == sorted(values, reverse=True)
    assert values[3] < 0.15


def test_octaves_are_the_same_and_a_quarter_tone_is_not() -> None:
    c = tones(C, 3.0)
    assert compare(c, tones((12, 16, 19), 3.0)).song > 0.98
    assert compare(c, tones((0.5, 4.5, 7.5), 3.0)).song < 0.8


def test_only_the_framewise_cosine_knows_the_order(progression: np.ndarray) -> None:
    backwards = np.concatenate([tones(chord, 2.0) for chord in (G, F, A_MINOR, C) * 2])
    found = compare(progression, backwards)
    assert found.song == pytest.approx(1.0, abs=0.01)
    assert found.framewise < 0.7


def test_noise_fools_the_song_level_cosine(progression: np.ndarray) -> None:
    noise = np.random.default_rng(0).standard_normal(len(progression)).astype(np.float32) * 0.1
    found = compare(progression, noise)
    assert found.song > found.framewise + 0.1


def test_loudness_does_not_matter(progression: np.ndarray) -> None:
    found = compare(progression, progression * np.float32(0.1))
    assert (found.framewise, found.song) == pytest.approx((1.0, 1.0), abs=1e-4)


def test_silence_is_neither_nan_nor_one(progression: np.ndarray) -> None:
    silent = chroma_of(np.zeros_like(progression))
    sounding = chroma_of(progression)
    assert similarity(silent, sounding) is None
    assert similarity(sounding, silent) == ChromaScore(0.0, 0.0)


def test_silent_frames_are_dropped(progression: np.ndarray) -> None:
    gap = progression.copy()
    gap[: len(gap) // 2] = 0
    marked = chroma_of(gap)
    assert marked.audible.mean() == pytest.approx(0.5, abs=0.02)
    assert compare(progression, gap).framewise > 0.97
