"""Captions: what cleaning takes out and leaves, and the sentence of the tags."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.annotation import musicnn
from pipeline.annotation.musicnn import HEAD_WORDS, INSTRUMENTS, MOODS, STYLES, TagAnnotator
from pipeline.annotation.sentence import COARSE, compose, pick
from pipeline.annotation.stage import Annotation, AnnotationConfig, build
from pipeline.annotation.text import clean_text
from pipeline.encoders.listener import Heard
from pipeline.encoders.musicnn import MusiCNN
from pipeline.encoders.words import Words
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


def test_words_are_taken_in_order_once_and_a_coarse_one_not_beside_a_finer_one():
    words = [("acoustic guitar", 0.9), ("drums", 0.3), ("guitar", 0.3), ("drums", 0.2), ("violin", 0.1)]
    assert pick(words, 4) == ("acoustic guitar", "drums", "violin")
    assert pick(words, 1) == ("acoustic guitar",)
    assert pick([("guitar", 0.3), ("acoustic guitar", 0.2)], 4) == ("guitar", "acoustic guitar")
    assert pick([], 4) == ()


@pytest.mark.parametrize(
    ("styles", "instruments", "moods", "sentence"),
    [
        (("rock", "pop"), ("harp", "organ"), ("sad",), "A rock and pop track with harp and organ, in a sad mood."),
        (("electronic",), (), ("happy", "soft"), "An electronic track in a happy and soft mood."),
        ((), ("piano",), (), "A track with piano."),
        (("R&B",), (), (), "An R&B track."),
        ((), (), (), "A track."),
    ],
)  # fmt: skip
def test_a_sentence_says_only_what_is_known_and_survives_cleaning(styles, instruments, moods, sentence):
    assert compose(styles, instruments, moods) == sentence == clean_text(sentence)


def test_every_word_belongs_to_a_tagger_and_every_tag_to_one_group():
    known = {*MusiCNN("MTT_musicnn").labels, *MusiCNN("MSD_musicnn").labels}
    groups = [STYLES, INSTRUMENTS, MOODS]
    assert set().union(*groups) <= known
    assert sum(len(group) for group in groups) == len(set().union(*groups))


def test_coarse_words_and_finer_ones_are_words_of_the_sentence():
    head = Words().head
    spoken = {HEAD_WORDS.get(word, word) for word in (*head.styles, *head.instruments)}
    assert set(HEAD_WORDS) <= {*head.styles, *head.instruments}
    assert set(COARSE) <= set(INSTRUMENTS.values())
    assert set().union(*COARSE.values()) <= spoken


@pytest.fixture(scope="module")
def annotator():
    return build(AnnotationConfig())


def audio() -> Audio:
    rng = np.random.default_rng(0)
    return Audio((0.1 * rng.standard_normal((2, 4 * 16_000))).astype(np.float32), 16_000)


def test_the_sentence_survives_cleaning(annotator):
    annotation = annotator(audio())
    assert isinstance(annotation, Annotation)
    (caption,) = annotation.captions
    assert caption == clean_text(caption)
    assert caption.startswith(("A ", "An "))
    assert annotation.lyrics == ""


def test_where_nobody_is_sure_nothing_is_said():
    unsure = TagAnnotator(AnnotationConfig(threshold=1.1, style_threshold=1.1, instrument_threshold=1.1))
    nothing = Heard(np.full((2, 100), 0.5, np.float32), np.zeros((2, 400), np.float32))
    assert unsure.describe(nothing) == Annotation(("A track.",), (), "")


def test_a_given_text_is_cleaned_and_comes_first(annotator):
    captions = annotator(audio(), "Jazz with female vocals at 90 BPM").captions
    assert (len(captions), captions[0]) == (2, "Jazz")
    assert annotator(audio(), "female vocals").captions == annotator(audio()).captions


def test_the_same_song_gives_the_same_words(annotator):
    assert annotator(audio()) == annotator(audio())


def test_the_record_names_backend_weights_and_licence(annotator):
    assert (annotator.name, annotator.backend) == ("annotation", "musicnn")
    assert annotator.licence == "ISC (musicnn), Apache-2.0 (words)"
    assert len(annotator.weights_sha256) == 64
    assert musicnn.build(AnnotationConfig()).weights_sha256 == annotator.weights_sha256
