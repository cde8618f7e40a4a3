"""The benches of conditioner and annotator on made-up songs with known answers."""

from collections.abc import Sequence

import numpy as np
import pytest

from flows.bench import annotation, conditioning
from flows.bench.annotation import Described, average_precision, f1
from flows.bench.conditioning import Heard, reciprocal
from flows.bench.paraphrases import DESCRIBED, FIVE, NAMED
from pipeline.annotation.stage import AnnotationConfig
from pipeline.conditioning.conditioner import ConditionerSpec
from pipeline.conditioning.phrases import about_style
from pipeline.songs.styles import styles
from pipeline.types import Audio

ORDER = sorted(NAMED)
TEXTS = {text: style for table in (NAMED, DESCRIBED) for style, texts in table.items() for text in texts}


class Oracle:
    """Knows the style of every text of the bench, or of none."""

    spec = ConditionerSpec("oracle", "", "CC0-1.0", width=len(ORDER), reference_seconds=20.48, joint_space=True)

    def text(self, texts: Sequence[str]):
        return np.stack([np.eye(len(ORDER), dtype=np.float32)[ORDER.index(TEXTS[text])] for text in texts])

    def audio(self, audio: Audio):
        raise AssertionError("the bench of texts asked for the vector of a sound")


def songs(shift: int = 0) -> Heard:
    """Five songs a style; with a shift, every vector is that of another style."""
    names = tuple(style for style in ORDER for _ in range(5))
    vectors = np.eye(len(ORDER))[[(ORDER.index(name) + shift) % len(ORDER) for name in names]]
    return Heard(vectors, names, tuple(NAMED[name][0] for name in names), 1.0)


def test_texts_are_those_of_the_renderers_styles_and_none_was_trained_on():
    assert set(NAMED) == set(DESCRIBED) == set(styles())
    assert set(FIVE) < set(NAMED)
    trained = {text.lower() for name, style in styles().items() for text in about_style(name, style.words, style.moods)}
    assert not trained & {text.lower() for text in TEXTS}


def test_who_knows_everything_finds_everything():
    rows = {row.measure: row for row in conditioning.rows(Oracle(), songs())}
    top = rows["text -> song, 5 styles: top 1"]
    assert (top.value, top.n, top.must, top.aim, top.passes) == (1.0, 45, 0.5, 0.9, True)
    assert top.baseline == pytest.approx(1 / len(ORDER), abs=0.01)
    assert all(row.value == 1.0 for name, row in rows.items() if "own caption" not in name)
    assert rows["its own caption -> song: songs ranked below it"].value == pytest.approx(105 / 109)


def test_who_is_always_wrong_finds_nothing():
    rows = {row.measure: row for row in conditioning.rows(Oracle(), songs(shift=1))}
    assert rows["text -> song, all styles: top 1"].value == 0.0
    assert rows[f"song -> text, one of {len(ORDER)} styles"].value == 0.0
    assert rows["text -> song, 5 styles: top 1"].passes is False


def test_songs_of_unknown_styles_alone_can_not_be_measured():
    with pytest.raises(ValueError, match="the songs' styles are \\['yodel'\\]"):
        conditioning.rows(Oracle(), Heard(np.zeros((1, len(ORDER))), ("yodel",), ("",), 1.0))


def test_closed_forms():
    np.testing.assert_allclose(reciprocal(np.array([[True, False], [False, True]])), [1.0, 0.5])
    assert average_precision(np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.8, 0.7])) == pytest.approx((1 + 2 / 3) / 2)
    truth, told = np.array([[1.0, 1, 0], [0, 0, 0]]), np.array([[1.0, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(f1(truth, told), [0.5, 1.0])


def test_annotation_rows():
    style = np.eye(2)[[0, 1, 0, 0]]
    guess = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.55, 0.45]])
    plays = np.array([[1.0, 0], [1, 1], [0, 0], [1, 0]])
    text = "A warm pop song with piano."
    heard = Described(style, guess, plays, plays, ((text, "A minor", "120"),) * 4, 2.0)
    rows = {row.measure: row for row in annotation.rows(heard, AnnotationConfig())}
    assert rows["likeliest style is the true one"].value == 0.75
    assert rows["songs whose style is named"].value == 0.75
    assert rows["named style is the true one"].value == pytest.approx(2 / 3)
    assert rows["instruments, F1 of a song"].value == 1.0
    assert rows["instruments, average precision over 2 families"].value == 1.0
    assert rows["given texts rid of singer, tempo and key, the rest kept"].value == 1.0
    assert all(row.seconds_per_minute == 2.0 for row in rows.values())
