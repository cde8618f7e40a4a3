"""Copies in time and pitch, and the three filters in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import freqz_sos

from pipeline.augmentation import (
    ORIGINAL,
    BalanceConfig,
    CopyConfig,
    apply_filters,
    augment,
    balance_filters,
    biquad,
    parse,
    plan,
    transpose_key,
)
from pipeline.records.schema import FilterRecord
from pipeline.separation.stage import Stems
from pipeline.structure.stage import NOTES, Structure
from pipeline.types import Audio, Section, Span

RATE = 48_000
CONFIG = CopyConfig()
BALANCE = BalanceConfig()
CAPTIONS = ("A rock track at 120 BPM in C major with guitar, in a happy mood.",)
SECONDS = 6.0


def stems() -> Stems:
    """Vocal: clicks at whole seconds. Accompaniment: 220 Hz left, 330 Hz right."""
    t = np.arange(int(SECONDS * RATE)) / RATE
    vocal = np.zeros((2, len(t)), np.float32)
    for second in range(1, 6):
        vocal[:, second * RATE : second * RATE + 96] = 0.8 * np.hanning(96)
    tones = np.stack([0.3 * np.sin(2 * np.pi * 220 * t), 0.3 * np.sin(2 * np.pi * 330 * t)])
    return Stems(Audio(vocal, RATE), Audio(tones.astype(np.float32), RATE))


def structure() -> Structure:
    sections = (Section(0.0, 2.0, "intro"), Section(2.0, SECONDS, "chorus"))
    beats = tuple(0.5 * i for i in range(12))
    return Structure(sections, beats, beats[::4], 120.0, "C major")


def copy(name: str):
    return augment(stems(), structure(), CAPTIONS, (Span(1.0, 3.0),), name)


def pitch_of(samples: np.ndarray) -> float:
    """Hz of the strongest partial, the second at either end left out."""
    inner = samples[RATE:-RATE].astype(np.float64) * np.hanning(len(samples) - 2 * RATE)
    return float(np.argmax(np.abs(np.fft.rfft(inner, 8 * len(inner)))) * RATE / (8 * len(inner)))


def click_times(samples: np.ndarray) -> np.ndarray:
    """Seconds of the energy centres of the five clicks."""
    energy = samples.astype(np.float64) ** 2
    times = np.arange(len(samples)) / RATE
    spacing = len(samples) / RATE / SECONDS
    return np.array(
        [
            np.sum((energy * times)[w]) / np.sum(energy[w])
            for w in (np.abs(times - i * spacing) < spacing / 2 for i in range(1, 6))
        ]
    )


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.2])
def test_a_stretch_changes_time_and_not_pitch(speed):
    changed = copy(f"stretch-{speed}")
    length = int(SECONDS * RATE / speed + 0.5)
    assert changed.stems.vocal.length == changed.stems.accompaniment.length == length
    assert pitch_of(changed.stems.accompaniment.samples[0]) == pytest.approx(220, rel=1e-3)
    np.testing.assert_allclose(click_times(changed.stems.vocal.samples[0]), np.arange(1, 6) / speed, atol=0.005)


@pytest.mark.parametrize("semitones", [-2, -1, 1, 2])
def test_a_pitch_shift_changes_pitch_and_not_time(semitones):
    changed = copy(f"pitch{semitones:+d}")
    assert changed.stems.vocal.length == changed.stems.accompaniment.length == int(SECONDS * RATE)
    for channel, frequency in enumerate((220, 330)):
        shifted = pitch_of(changed.stems.accompaniment.samples[channel])
        assert 1200 * np.log2(shifted / frequency) == pytest.approx(100 * semitones, abs=1.0)
    np.testing.assert_allclose(click_times(changed.stems.vocal.samples[0]), np.arange(1, 6), atol=0.005)


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.2])
def test_a_stretch_rewrites_everything_that_knows_time(speed):
    changed = copy(f"stretch-{speed}")
    before, after = structure(), changed.structure
    assert after.sections[-1].end == pytest.approx(changed.stems.vocal.duration, abs=1 / RATE)
    assert after.sections[-1].end <= changed.stems.vocal.duration
    assert [s.label for s in after.sections] == [s.label for s in before.sections]
    assert all(a.end == b.start for a, b in zip(after.sections, after.sections[1:], strict=False))
    np.testing.assert_allclose(after.beats, np.array(before.beats) / speed)
    assert set(after.downbeats) <= set(after.beats)
    assert after.tempo == pytest.approx(120 * speed)
    assert after.key == "C major"
    assert changed.vocal_active == (Span(1 / speed, 3 / speed),)
    assert changed.captions == (CAPTIONS[0].replace("120", f"{120 * speed:.0f}"),)


def test_a_pitch_shift_rewrites_the_key_and_nothing_else():
    changed = copy("pitch-1")
    assert changed.structure.key == "B major"
    assert changed.structure.beats == structure().beats
    assert changed.structure.tempo == 120
    assert changed.vocal_active == (Span(1.0, 3.0),)
    assert changed.captions == (CAPTIONS[0].replace("C major", "B major"),)


def test_key_words_of_captions_may_be_spelled_with_flats():
    flat = augment(stems(), structure(), ("jazz in Bb minor", "in E flat-major"), (), "pitch+2").captions
    assert flat == ("jazz in C minor", "in F-major")


def test_the_original_is_given_back_untouched():
    given_stems = stems()
    same = augment(given_stems, structure(), CAPTIONS, (), ORIGINAL)
    assert same.stems is given_stems
    assert same.captions == CAPTIONS


def test_both_stems_pass_through_one_processor():
    """Two equal stems stay equal, so that nothing between them drifts."""
    pair = stems()
    changed = augment(Stems(pair.vocal, pair.vocal), structure(), (), (), "stretch-0.9").stems
    np.testing.assert_allclose(changed.vocal.samples, changed.accompaniment.samples, atol=1e-3)


def test_augmentation_is_deterministic():
    first, second = copy("pitch+1").stems, copy("pitch+1").stems
    assert first.vocal.samples.tobytes() == second.vocal.samples.tobytes()


def test_stems_of_different_length_are_refused():
    pair = stems()
    short = Audio(pair.vocal.samples[:, :-1], RATE)
    with pytest.raises(ValueError, match="stems must agree"):
        augment(Stems(short, pair.accompaniment), structure(), (), (), "pitch+1")


@pytest.mark.parametrize("name", ["stretch", "stretch-0", "pitch2", "pitch+2.5", "", "stretch-5.0", "pitch+13"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="augmentation"):
        parse(name)


@given(st.sampled_from(NOTES), st.sampled_from(["major", "minor"]), st.integers(-12, 12))
def test_transposing_there_and_back_is_the_identity(tonic, mode, semitones):
    key = f"{tonic} {mode}"
    assert transpose_key(transpose_key(key, semitones), -semitones) == key


def test_keys_may_be_given_with_flats_and_no_other_spelling_is_guessed():
    assert transpose_key("Ab major", 1) == "A major"
    assert transpose_key("Cb minor", 0) == "B minor"
    with pytest.raises(ValueError, match="must be a note and a mode"):
        transpose_key("H major", 1)


def test_a_fifth_of_the_songs_get_a_copy_and_all_eight_kinds_occur():
    names = [plan(CONFIG, 0, f"track-{i}") for i in range(5000)]
    copies = [name for name in names if name != ORIGINAL]
    assert len(copies) / len(names) == pytest.approx(0.2, abs=0.02)
    counts = [copies.count(name) for name in CONFIG.names]
    assert sum(counts) == len(copies)
    assert min(counts) > 80  # 125 expected


def test_the_plan_depends_on_seed_and_track_alone():
    ids = [f"track-{i}" for i in range(200)]
    assert [plan(CONFIG, 1, i) for i in ids] == [plan(CONFIG, 1, i) for i in reversed(ids)][::-1]
    assert [plan(CONFIG, 1, i) for i in ids] != [plan(CONFIG, 2, i) for i in ids]
    assert {plan(CopyConfig(share=0.0), 0, i) for i in ids} == {ORIGINAL}
    assert ORIGINAL not in {plan(CopyConfig(share=1.0), 0, i) for i in ids}


def test_a_recipe_with_an_unknown_copy_is_refused():
    with pytest.raises(ValueError, match="augmentation"):
        CopyConfig(names=("faster",))


def gain_db(record: FilterRecord, frequency: float) -> float:
    _, response = freqz_sos(biquad(record, RATE)[None], worN=[2 * np.pi * frequency / RATE])
    return float(20 * np.log10(np.abs(response[0])))


gains = st.floats(-6, 6)
qs = st.floats(0.5, 1.5)


@given(gains, st.floats(60, 8000), qs)
def test_bass_shelf_in_closed_form(gain, frequency, q):
    record = FilterRecord("bass", gain, frequency, q)
    expected = {0.0: gain, frequency: gain / 2, RATE / 2: 0.0}
    assert {f: gain_db(record, f) for f in expected} == pytest.approx(expected, abs=1e-6)


@given(gains, st.floats(60, 8000), qs)
def test_mid_peak_in_closed_form(gain, frequency, q):
    record = FilterRecord("mid", gain, frequency, q)
    expected = {0.0: 0.0, frequency: gain, RATE / 2: 0.0}
    assert {f: gain_db(record, f) for f in expected} == pytest.approx(expected, abs=1e-6)


@given(gains, st.floats(60, 8000), qs)
def test_treble_shelf_in_closed_form(gain, frequency, q):
    record = FilterRecord("treble", gain, frequency, q)
    expected = {0.0: 0.0, frequency: gain / 2, RATE / 2: gain}
    assert {f: gain_db(record, f) for f in expected} == pytest.approx(expected, abs=1e-6)


def test_every_draw_lies_in_the_papers_ranges_and_p_is_respected():
    rng = np.random.default_rng(0)
    draws = [balance_filters(BALANCE, rng) for _ in range(2000)]
    active = [draw for draw in draws if draw]
    assert len(active) / len(draws) == pytest.approx(0.7, abs=0.03)
    ranges = {"bass": ((-5, -2), (80, 180), (0.6, 1.1)), "mid": ((1, 3), (1200, 2600), (0.6, 1.2))}
    ranges["treble"] = ((1, 3.5), (3200, 5800), (0.6, 1.0))
    for draw in active:
        assert [record.kind for record in draw] == ["bass", "mid", "treble"]
        for record in draw:
            values = (record.gain_db, record.frequency, record.q)
            assert all(low <= v <= high for v, (low, high) in zip(values, ranges[record.kind], strict=True))


def test_the_filters_act_one_after_the_other():
    draw = balance_filters(BalanceConfig(probability=1.0), np.random.default_rng(1))
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)[None]
    filtered = apply_filters(Audio(tone, RATE), draw).samples[0, RATE // 2 :]
    level = 20 * np.log10(np.sqrt(np.mean(filtered.astype(np.float64) ** 2)) * np.sqrt(2))
    assert level == pytest.approx(sum(gain_db(record, 1000.0) for record in draw), abs=1e-3)


def test_no_filters_no_change():
    audio = Audio(np.ones((2, 10), np.float32), RATE)
    assert apply_filters(audio, ()) is audio


@pytest.mark.parametrize("record", [FilterRecord("air", 1, 1000, 1), FilterRecord("bass", 1, 24_000, 1)])
def test_impossible_filters_are_refused(record):
    with pytest.raises(ValueError, match="filter"):
        biquad(record, RATE)
