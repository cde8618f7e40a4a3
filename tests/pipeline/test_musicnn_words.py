"""The listener's summary and the head of words: shapes, closed forms, honesty far from the training songs."""

import numpy as np
import pytest

from pipeline.encoders.listener import SUMMARY, TAG_FLOOR, Heard
from pipeline.encoders.words import WordHead, Words, load_head
from pipeline.errors import BackendUnavailable


def heard(value: float = 0.0, rows: int = 4) -> Heard:
    return Heard(np.full((rows, 100), 0.1, np.float32), np.full((rows, 400), value, np.float32))


def head(weight: float = 0.0) -> WordHead:
    return WordHead(
        ("jazz", "rock"),
        ("organ",),
        heard().summary(),
        np.ones(SUMMARY),
        np.tile([0.0, weight, weight], (SUMMARY, 1)),
        np.array([0.0, np.log(3.0), 0.0]),
        np.full(3, 0.5),
        spread=1.0,
    )


def test_the_summary_is_mean_log_tags_and_mean_and_deviation_of_the_embedding():
    rng = np.random.default_rng(0)
    both = Heard(rng.uniform(size=(5, 100)).astype(np.float32), rng.normal(size=(5, 400)).astype(np.float32))
    expected = [np.log(both.tags + TAG_FLOOR).mean(0), both.embedding.mean(0), both.embedding.std(0)]
    np.testing.assert_allclose(both.summary(), np.concatenate(expected), atol=1e-5)
    assert both.summary().shape == (SUMMARY,)


def test_at_the_mean_the_biases_speak():
    guess = head()(heard())
    np.testing.assert_allclose(guess.styles, [0.25, 0.75])
    np.testing.assert_allclose(guess.instruments, [0.5])
    assert guess.distance == 0


def test_the_further_from_the_training_songs_the_flatter_the_answer():
    near, far = head(0.01)(heard(1.0)), head(0.01)(heard(9.0))
    assert near.distance < 1 < far.distance
    assert near.styles[1] > 0.95
    limit = head(0.01)(heard(4.0))
    assert far.styles[1] < limit.styles[1]
    assert far.styles.sum() == pytest.approx(1)


def test_the_shipped_head_is_read_and_answers():
    words = Words()
    guess = words(heard())
    assert guess.styles.shape == (len(words.head.styles),)
    assert guess.styles.sum() == pytest.approx(1)
    assert ((guess.instruments >= 0) & (guess.instruments <= 1)).all()
    assert len(words.weights_sha256) == 64
    assert len(set(words.head.styles)) >= 12


def test_a_head_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "words.safetensors"
    path.write_bytes(head(0.25).to_bytes())
    found = load_head(path)
    assert (found.styles, found.instruments, found.spread) == (("jazz", "rock"), ("organ",), 1.0)
    np.testing.assert_array_equal(found.weight, head(0.25).weight)


def test_a_file_that_is_no_head_is_refused(tmp_path):
    path = tmp_path / "words.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(BackendUnavailable, match="not a head of words"):
        load_head(path)
    with pytest.raises(BackendUnavailable, match="not a head of words"):
        load_head(tmp_path / "missing.safetensors")


def test_a_matrix_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="expected"):
        WordHead(("a", "b"), (), np.zeros(900), np.ones(900), np.zeros((900, 3)), np.zeros(2), np.zeros(2), 1.0)
