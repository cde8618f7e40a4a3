"""The parts of the structure backend, on numbers that can be worked out by hand."""

from itertools import pairwise

import numpy as np
import pytest

from pipeline.structure import grid, harmony, sections, spectra, tonality, tracker
from pipeline.structure.examples import another_form
from pipeline.structure.sections import LABELS, Opinion
from pipeline.structure.spectra import MEL_RATE, NOTES, PITCH_RATE, Spectra
from pipeline.types import Audio, Span

RATE = 22_050


def pulses(times, length, height=0.9):
    """Activations with a bump at each time (s)."""
    frames = np.arange(length)
    bumps = [height * np.exp(-0.5 * ((frames - t * MEL_RATE) / 1.0) ** 2) for t in times]
    return np.maximum(0.01, np.max(bumps, axis=0))


@pytest.mark.parametrize(("bpm", "per_bar"), [(60, 4), (97, 4), (133, 3), (190, 4)])
def test_the_tracker_finds_a_steady_pulse_and_its_metre(bpm, per_bar):
    times = np.arange(0.3, 29, 60 / bpm)
    metre = tracker.track(pulses(times, 1500), pulses(times[1::per_bar], 1500), (3, 4))
    assert np.abs(metre.beats - times).max() < 0.02
    assert metre.downbeats.tolist() == list(range(1, len(times), per_bar))
    assert tracker.tempo(metre.beats) == pytest.approx(bpm, rel=0.005)


def test_the_tracker_follows_a_tempo_that_changes():
    times = np.concatenate(
        [np.arange(0, 10, 0.5), 10 + np.arange(0, 10, 0.55), 20 + np.cumsum(np.linspace(0.5, 0.6, 15))]
    )
    times = times[np.concatenate([[True], np.diff(times) > 0.3])]
    metre = tracker.track(pulses(times, 1500), pulses(times[::4], 1500), (4,))
    assert len(metre.beats) == len(times)
    assert np.abs(metre.beats - times).max() < 0.03


def test_the_tracker_counts_on_where_beats_are_not_heard():
    times = np.arange(0, 29, 0.5)
    heard = np.delete(times, [20, 21, 22])
    metre = tracker.track(pulses(heard, 1500), pulses(times[::4], 1500), (4,))
    assert np.abs(metre.beats - times).max() < 0.05


@pytest.mark.parametrize("beat", [np.full(1500, 0.02), np.full(40, 0.9), np.zeros(0)])
def test_no_pulse_no_beats(beat):
    assert tracker.track(beat, beat, (3, 4)) is tracker.NONE
    assert tracker.tempo(tracker.NONE.beats) == 0


def opinion(boundary, labels):
    """One logit per beat and the label that each beat is sure of."""
    sure = np.full((len(labels), len(LABELS)), np.log(0.02))
    sure[np.arange(len(labels)), labels] = np.log(0.86)
    return Opinion(np.asarray(boundary, dtype=float), sure)


EVEN = np.log(np.full((8, 8), 1 / 8))


def test_division_follows_boundaries_and_labels():
    begins = np.full(32, -4.0)
    begins[[0, 8, 24]] = 4.0
    found = sections.divide(opinion(begins, [0] * 8 + [1] * 16 + [3] * 8), EVEN)
    assert found == [(0, 8, 0), (8, 24, 1), (24, 32, 3)]


def test_a_chorus_that_is_hardly_heard_is_none():
    begins = np.full(64, -4.0)
    begins[[0, 16, 32, 48]] = 4.0
    labels = np.array([1] * 16 + [3] * 16 + [1] * 16 + [3] * 16)
    sure = opinion(begins, labels)
    assert [label for _, _, label in sections.divide(sure, EVEN)] == [1, 3, 1, 3]
    torn = sure.labels.copy()
    torn[labels == 3] = np.log(0.02)
    torn[labels == 3, 1], torn[labels == 3, 3] = np.log(0.4), np.log(0.48)
    assert 3 not in [label for _, _, label in sections.divide(Opinion(begins, torn), EVEN)]


def test_the_same_label_twice_is_two_sections_where_a_boundary_is_heard():
    begins = np.full(32, -4.0)
    begins[[0, 16]] = 8.0
    assert sections.divide(opinion(begins, [3] * 32), EVEN) == [(0, 16, 3), (16, 32, 3)]


def test_transitions_decide_what_beats_leave_open():
    begins = np.full(16, -4.0)
    begins[8] = 6.0
    first = opinion(begins[:8], [0] * 8).labels
    unsure = Opinion(begins, np.vstack([first, np.full((8, 8), np.log(1 / 8))]))
    table = sections.transition_table([[0, 4, 1]] * 20, smoothing=1.0)
    assert sections.divide(unsure, table) == [(0, 8, 0), (8, 16, 4)]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_short_song_is_one_section(count):
    assert sections.divide(opinion([5.0] * count, [1] * count), EVEN)[-1][1] == count


def test_a_transition_table_is_a_distribution():
    table = np.exp(sections.transition_table([[0, 1, 3], [0, 1, 1]], smoothing=0.5))
    assert table.sum(axis=1) == pytest.approx(np.ones(8))
    assert table[0].argmax() == 1


def tone(notes, seconds):
    t = np.arange(int(seconds * RATE)) / RATE
    sound = sum(np.sin(2 * np.pi * 440 * 2 ** ((n - 69) / 12) * t) for n in notes)
    return Audio((0.2 * sound)[None].astype(np.float32), RATE)


def test_frames_are_fifty_and_ten_a_second_whatever_the_rate():
    for rate in (16_000, 48_000):
        heard = spectra.analyse(Audio(np.zeros((2, 2 * rate), np.float32), rate))
        assert heard.mel.shape == (2 * MEL_RATE, spectra.BANDS)
        assert heard.pitch.shape == (2 * PITCH_RATE, NOTES)


def test_loudness_in_the_file_changes_nothing():
    loud = tone((60, 64), 2.0)
    soft = Audio(0.01 * loud.samples, RATE)
    assert np.abs(spectra.analyse(loud).mel - spectra.analyse(soft).mel).max() < 0.01


@pytest.mark.parametrize("cents", [-40, 0, 30])
def test_notes_are_found_in_any_tuning(cents):
    heard = spectra.analyse(tone((45 + cents / 100, 60 + cents / 100, 64 + cents / 100, 67 + cents / 100), 3.0))
    notes, bass = (part.mean(axis=0) for part in harmony.chroma(heard.pitch))
    assert set(np.argsort(notes)[-3:]) == {0, 4, 7}
    assert bass.argmax() == 9


def test_a_learned_template_finds_its_key_on_every_tonic():
    scale = np.zeros((tonality.PARTS, 12))
    scale[:, [0, 2, 4, 5, 7, 9, 11]] = 1.0
    minor = np.zeros((tonality.PARTS, 12))
    minor[:, [0, 2, 3, 5, 7, 8, 11]] = 1.0
    weights, bias = np.stack([scale.ravel(), minor.ravel()]), np.zeros(2)
    assert tonality.find_key(np.roll(scale, 6, axis=1), weights, bias) == "F# major"
    assert tonality.find_key(np.roll(minor, 10, axis=1), weights, bias) == "A# minor"


def song(seconds=20.0):
    rng = np.random.default_rng(0)
    mel = rng.uniform(1, 3, (int(seconds * MEL_RATE), spectra.BANDS)).astype(np.float32)
    return Spectra(mel, rng.uniform(0, 3, (int(seconds * PITCH_RATE), NOTES)).astype(np.float32), seconds)


@pytest.mark.parametrize("first", [0.0, 0.02, 0.7])
def test_a_grid_tiles_the_song_and_knows_its_bars(first):
    beats = np.arange(first, 19.9, 0.5)
    laid = grid.lay(song(), beats, np.arange(1, len(beats), 4), (Span(0.0, 10.0),))
    assert (laid.lines[0], laid.lines[-1]) == (0, 20.0)
    assert all(b > a for a, b in pairwise(laid.lines))
    starts = laid.lines[:-1][laid.phase == 0]
    assert set(np.round(beats[1::4], 3)) <= set(np.round(starts, 3))
    assert laid.voice is not None
    assert laid.voice[laid.lines[1:] <= 10.0] == pytest.approx(1.0)


def test_without_pulse_the_grid_is_half_seconds():
    laid = grid.lay(song(), np.zeros(0), np.zeros(0, dtype=int), None)
    assert np.diff(laid.lines) == pytest.approx(0.5)
    assert laid.per_bar == 0
    assert set(laid.phase) == {-1}


def test_the_network_sees_repetition_in_every_key():
    beats = np.arange(0, 20, 0.5)
    laid = grid.lay(song(), beats, np.arange(0, len(beats), 4), None)
    twice = laid.take(np.tile(np.arange(len(laid.phase)), 2))
    columns, likeness = grid.inputs(twice)
    half = len(laid.phase)
    assert columns.shape == (2 * half, grid.COLUMNS)
    assert np.isfinite(columns).all()
    off = np.where(np.abs(np.subtract.outer(np.arange(2 * half), np.arange(2 * half))) < 4, -1, likeness)
    middle = np.arange(8, half - 8)
    assert (off[middle].argmax(axis=1) == middle + half).all()


def test_another_form_is_made_of_whole_sections():
    labels = np.repeat([0, 1, 3, 5, 3, 6], 16)
    boundary = (np.arange(96) % 16 == 0).astype(float)
    sizes = set()
    for seed in range(50):
        rows, begins = another_form(labels, boundary, np.random.default_rng(seed))
        assert len(rows) == len(begins)
        assert begins[0] == 1
        assert all(boundary[rows[i]] for i in np.flatnonzero(begins))
        sizes.add(len(rows))
    assert len(sizes) > 5
