"""Captions: what cleaning takes out and leaves, and the sentence of the tags."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotation import musicnn
from pipeline.annotation.musicnn import INSTRUMENTS, MOODS, STYLES, pick
from pipeline.annotation.stage import Annotation, AnnotationConfig, build
from pipeline.annotation.text import clean_text
from pipeline.encoders.musicnn import MusiCNN
from pipeline.types import Audio

CLEANED = {
    "A melancholic folk ballad with acoustic guitar, sung by a female vocalist, 90 BPM in A minor.": (
        "A melancholic folk ballad with acoustic guitar."
    ),
    "A pop song with female vocals and synths": "A pop song with synths",
    "rock, male vocals, guitar": "rock, guitar",
    "guitar and female vocals. Sad mood.": "guitar. Sad mood.",
    "Sung by a woman. rock with guitars.": "Rock with guitars.",
    "A rock song sung by a man at 120 bpm": "A rock song",
    "The song is in the key of C# major. Warm jazz with tenor saxophone.": "Warm jazz with tenor saxophone.",
    "A female-fronted rock band with loud guitars": "A rock band with loud guitars",
    "upbeat mid-tempo funk, 104-110 BPM, key: F#m": "upbeat funk",
    "Slow blues in Am with piano": "Slow blues with piano",
    "Tempo: 120, happy": "Happy",
    "indie\nfemale voice\nC minor": "indie",
    "Fast techno at 140 BPM. D minor.": "Fast techno.",
    "Dreamy pop in a minor key": "Dreamy pop",
    "Female singer.": "",
    "90 BPM": "",
    "": "",
}


@pytest.mark.parametrize(("text", "expected"), CLEANED.items())
def test_singer_tempo_and_key_go_and_the_rest_stays(text, expected):
    assert clean_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "A pop and rock track with guitar, drums and piano, in a sad and mellow mood.",
        "An R&B track with synthesizer, in a relaxed mood.",
        "Warm baritone guitar over brushed drums; a major-sounding, manic finale!",
        "80s synth-pop with 808 drums.",
    ],
)
def test_style_instruments_and_mood_are_left_alone(text):
    assert clean_text(text) == text


WORDS = [
    "a",
    "the",
    "rock",
    "song",
    "female",
    "vocals",
    "man",
    "sings",
    "120 BPM",
    "C major",
    "F#m",
    "tempo",
    "guitar",
    "sad",
]
LINKS = [" ", ", ", ". ", " with ", " and ", " in ", " by ", "\n", "; ", " sung by ", " at "]
texts = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(LINKS)), max_size=12).map(
    lambda pairs: "".join(word + link for word, link in pairs)
)


@given(texts)
def test_cleaning_twice_is_cleaning_once_and_nothing_forbidden_is_left(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert not {"female", "vocals", "man", "sings", "BPM", "major", "F#m", "tempo"} & set(
        cleaned.replace(",", "").split()
    )


@given(st.text(max_size=200))
def test_any_text_can_be_cleaned(text):
    assert clean_text(clean_text(text)) == clean_text(text)


def test_the_likeliest_word_is_always_taken_and_others_from_the_threshold_on():
    tags = {"guitar": 0.04, "piano": 0.03, "violin": 0.3, "beat": 0.2, "drums": 0.25}
    assert pick(tags, INSTRUMENTS, 4, 0.1) == ("violin", "drums")
    assert pick(tags, INSTRUMENTS, 1, 0.1) == ("violin",)
    assert pick({"guitar": 0.04, "piano": 0.03}, INSTRUMENTS, 4, 0.1) == ("guitar",)


def test_every_word_belongs_to_a_tagger_and_every_tag_to_one_group():
    known = {*MusiCNN("MTT_musicnn").labels, *MusiCNN("MSD_musicnn").labels}
    groups = [STYLES, INSTRUMENTS, MOODS]
    assert set().union(*groups) <= known
    assert sum(len(group) for group in groups) == len(set().union(*groups))


@pytest.fixture(scope="module")
def annotator():
    return build(AnnotationConfig())


def audio() -> Audio:
    rng = np.random.default_rng(0)
    return Audio((0.1 * rng.standard_normal((2, 4 * 16_000))).astype(np.float32), 16_000)


def test_the_sentence_names_style_instruments_and_mood_and_survives_cleaning(annotator):
    annotation = annotator(audio())
    assert isinstance(annotation, Annotation)
    (caption,) = annotation.captions
    assert caption == clean_text(caption)
    assert caption.startswith(("A ", "An "))
    assert " track with " in caption
    assert caption.endswith(" mood.")
    assert annotation.lyrics == ""


def test_a_given_text_is_cleaned_and_comes_first(annotator):
    captions = annotator(audio(), "Jazz with female vocals at 90 BPM").captions
    assert (len(captions), captions[0]) == (2, "Jazz")
    assert annotator(audio(), "female vocals").captions == annotator(audio()).captions


def test_the_same_song_gives_the_same_words(annotator):
    assert annotator(audio()) == annotator(audio())


def test_the_record_names_backend_weights_and_licence(annotator):
    assert (annotator.name, annotator.backend, annotator.licence) == ("annotation", "musicnn", "ISC")
    assert len(annotator.weights_sha256) == 64
    assert musicnn.build(AnnotationConfig()).weights_sha256 == annotator.weights_sha256
