"""Composition: what must hold for every song, whatever its seed. Nothing here needs the extra `songs`."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.songs.arranger import Arranger, describe
from pipeline.songs.composer import compose
from pipeline.songs.form import LONGEST_BARS, SHORTEST_BARS
from pipeline.songs.lyrics import Lyricist, bank, parse
from pipeline.songs.mixing import PEAK, balance, pan, room, wet
from pipeline.songs.score import stream
from pipeline.songs.styles import styles
from pipeline.songs.theory import PROGRESSIONS, Key, nearest
from pipeline.songs.truth import song_truth

RANGE = (55, 74)
seeds = st.integers(0, 100_000)


@pytest.mark.parametrize(
    ("tonic", "mode", "degree", "seventh", "name", "tones"),
    [
        (0, "major", 1, False, "C:maj", (0, 4, 7)),
        (0, "major", 5, True, "G:7", (7, 11, 2, 5)),
        (9, "minor", 6, False, "F:maj", (5, 9, 0)),
        (9, "minor", 5, True, "E:min7", (4, 7, 11, 2)),
        (10, "major", 2, True, "C:min7", (0, 3, 7, 10)),
    ],
)
def test_chords_are_the_textbook_ones(tonic, mode, degree, seventh, name, tones):
    chord = Key(tonic, mode).chord(degree, seventh)
    assert (chord.name, chord.tones) == (name, tones)


def test_progressions_use_only_major_and_minor_triads():
    for mode, pools in PROGRESSIONS.items():
        names = {Key(0, mode).chord(d).name.split(":")[1] for pool in pools.values() for p in pool for d in p}
        assert names == {"maj", "min"}


@given(st.integers(0, 11), st.integers(30, 90))
def test_nearest_has_the_pitch_class_and_is_near(pitch_class, around):
    pitch = nearest(pitch_class, around)
    assert pitch % 12 == pitch_class
    assert abs(pitch - around) <= 6


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([(12.0, 16.0), (60.0, 90.0), (75.0, 75.5), (150.0, 200.0)]))
def test_songs_keep_the_rules_of_form_key_and_length(seed, seconds):
    score = compose(seed, seconds, RANGE)
    spec = styles()[score.style]
    assert seconds[0] - 1e-3 <= score.seconds(score.beats) <= seconds[1] + 1e-3
    assert 70 <= spec.tempo[0] <= score.tempo <= 150
    assert [part.start_bar for part in score.parts] == [0, *np.cumsum([part.bars for part in score.parts])[:-1]]
    assert (score.parts[0].label, score.parts[-1].label) == ("intro", "outro")
    assert "chorus" in {part.label for part in score.parts}
    assert "inst" in {part.label for part in score.parts}
    assert all(part.bars >= SHORTEST_BARS[part.label] for part in score.parts)
    longest = 1 if seconds[1] <= 90 else 2
    assert all(part.bars <= longest * LONGEST_BARS[part.label] + 2 * (not part.sung) for part in score.parts)
    assert all(set(chord.tones) <= set(score.key.scale) for part in score.parts for chord in part.chords)
    assert score.parts[-1].chords[-1].root == score.key.tonic


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_the_melody_is_in_key_in_range_in_order_and_on_the_words(seed):
    score = compose(seed, (60.0, 90.0), RANGE)
    tones = [tone for sung in score.sung for tone in sung.tones]
    assert all(tone.pitch % 12 in score.key.scale and RANGE[0] <= tone.pitch <= RANGE[1] for tone in tones)
    assert all(a.start + a.length <= b.start + 1e-9 for a, b in pairwise(tones))
    assert all(score.part_at(tone.start).sung for tone in tones)
    assert all(sung.end <= score.part_at(sung.start).end for sung in score.sung)
    slots = [(sung.word, sung.syllable) for sung in score.sung]
    assert slots == [(w, s) for w, word in enumerate(score.words) for s in range(len(word.syllables))]
    assert sum(sung.opens for sung in score.sung) == len(score.lines)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_held_notes_fit_their_chord(seed):
    score = compose(seed, (60.0, 90.0), RANGE)
    held = [s.tones[-1] for s in score.sung if len(s.tones) == 1 and s.tones[0].length >= 1.5]
    assert all(tone.pitch % 12 in score.chord_at(tone.start).tones for tone in held)


def test_choruses_repeat_words_and_notes_and_verses_repeat_notes_only():
    score = next(s for s in (compose(n, (60.0, 90.0), RANGE) for n in range(50)) if _count(s, "verse") > 1)
    for label, same_words in (("verse", False), ("chorus", True)):
        first, second, *_ = (part for part in score.parts if part.label == label)
        heard = [
            [(s.start - part.start, s.tones[0].pitch, score.words[s.word].text) for s in score.sung if _within(s, part)]
            for part in (first, second)
        ]
        assert ([text for *_, text in heard[0]] == [text for *_, text in heard[1]]) is same_words
        # the last syllable of a line may be ornamented anew
        same = [a[:2] == b[:2] for a, b in zip(*heard, strict=True)]
        assert np.mean(same) > 0.75


def test_a_seed_is_a_song_and_no_two_are_alike():
    songs = [compose(seed, (60.0, 90.0), RANGE) for seed in range(80)]
    assert compose(7, (60.0, 90.0), RANGE) == songs[7]
    assert len({song.sung for song in songs}) == 80
    assert len({song.style for song in songs}) == len(styles()) >= 5
    assert {song.key.mode for song in songs} == {"major", "minor"}


def test_a_song_too_short_for_any_form_is_refused():
    with pytest.raises(ValueError, match="the shortest form takes"):
        compose(0, (5.0, 9.0), RANGE)


@pytest.mark.parametrize("count", range(2, 13))
def test_lines_have_the_wanted_number_of_syllables(count):
    lyricist = Lyricist(stream(count, "test"))
    assert [phrase.syllables for phrase in lyricist.verse([count] * 8)] == [count] * 8


def test_hyphens_split_syllables():
    phrase = parse("the ri-ver runs")
    assert [word.text for word in phrase.words] == ["the", "river", "runs"]
    assert phrase.syllables == 4
    assert all(syllable for word in bank().vocabulary for syllable in word.syllables)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_the_band_plays_the_chords_and_differs_by_section(seed):
    score = compose(seed, (60.0, 90.0), RANGE)
    tracks = Arranger(score).tracks()
    assert tracks == Arranger(score).tracks()
    end = score.seconds(score.beats)
    for track in tracks:
        assert all(0 <= s.start < s.end <= end + 0.1 and 1 <= s.velocity <= 127 for s in track.strikes)
        if not track.drums:
            assert {s.pitch % 12 for s in track.strikes} <= set(score.key.scale)
    loudness = {p.label: _density(score, tracks, p) for p in score.parts}
    assert loudness["chorus"] > loudness["verse"]
    assert loudness["chorus"] > loudness["intro"]


def test_the_bass_plays_the_root_of_nearly_every_bar():
    score = compose(3, (60.0, 90.0), RANGE)
    bass = Arranger(score).tracks()[1]
    bar = score.seconds(4)
    chords = [chord for part in score.parts for chord in part.chords]
    hits = [
        chord.root in {s.pitch % 12 for s in bass.strikes if i * bar - 0.05 <= s.start < (i + 1) * bar - 0.05}
        for i, chord in enumerate(chords)
    ]
    assert np.mean(hits) > 0.95


def test_the_text_names_style_and_instruments_but_no_singer_tempo_or_key():
    for seed in range(40):
        score = compose(seed, (60.0, 90.0), RANGE)
        tracks = Arranger(score).tracks()
        text = describe(score, tracks)
        assert all(track.name in text for track in tracks)
        assert not {"bpm", "major", "minor", "singer", "vocal", "male", "female", "voice"} & set(text.lower().split())


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_truth_tiles_the_song(seed):
    score = compose(seed, (60.0, 90.0), RANGE)
    samples = round((score.seconds(score.beats) + 1.5) * 48_000)
    truth = song_truth(score, Arranger(score).tracks(), samples, (60.0, 90.0), "Ada")
    ends = [section.end for section in truth.sections]
    assert [section.start for section in truth.sections] == [0.0, *ends[:-1]]
    assert ends[-1] == pytest.approx(samples / 48_000, abs=1e-6)
    assert np.allclose(np.diff(truth.beats), 60 / score.tempo, atol=2e-6)
    assert truth.downbeats == truth.beats[::4]
    assert {section.start for section in truth.sections} <= set(truth.downbeats)
    assert len(truth.lyrics.split()) == len(truth.words) > 0


def test_stems_add_up_and_stay_below_full_scale():
    rng = np.random.default_rng(0)
    vocal, band = (rng.normal(0, 0.3, (2, 48_000)).astype(np.float32) for _ in range(2))
    stems = balance(vocal, band, 5)
    exact = stems.vocal.astype(int) + stems.accompaniment.astype(int)
    assert np.array_equal(stems.mix.astype(int), exact)
    assert max(np.abs(x.astype(int)).max() for x in (stems.mix, stems.vocal, stems.accompaniment)) <= PEAK * 32767 + 1


def test_silence_stays_silent():
    stems = balance(np.zeros((2, 480), np.float32), np.zeros((2, 480), np.float32), 5)
    assert not stems.mix.any()


def test_panning_keeps_power_and_reverberation_keeps_length():
    tone = np.sin(np.arange(4800) / 10)
    for place in (-1.0, -0.3, 0.0, 0.8):
        assert np.square(pan(tone, place)).sum() == pytest.approx(2 * np.square(tone).sum(), rel=1e-5)
    response = room(1, "band", 0.5)
    assert np.square(response).sum(axis=1) == pytest.approx([1, 1], rel=1e-4)
    assert wet(pan(tone, 0.0), response, 0.2).shape == (2, 4800)


def _count(score, label):
    return sum(part.label == label for part in score.parts)


def _within(sung, part):
    return part.start <= sung.start < part.end


def _density(score, tracks, part):
    """Velocity per second of all instruments."""
    a, b = score.seconds(part.start) - 0.02, score.seconds(part.end) - 0.02
    return sum(s.velocity for t in tracks for s in t.strikes if a <= s.start < b) / (b - a)
