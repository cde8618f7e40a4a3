"""Training of the joint space: fits on made-up data with known answers, phrases, families, the cache."""

import json

import numpy as np
import pytest

from pipeline.conditioning import training
from pipeline.conditioning.families import families, family
from pipeline.conditioning.fitting import fit_directions, fit_head, regress
from pipeline.conditioning.phrases import GENRES, INSTRUMENTS, SOUNDS, about_instrument, about_style
from pipeline.encoders.listener import SUMMARY, Heard
from pipeline.songs.styles import styles
from pipeline.songs.truth import RENDERER_VERSION
from pipeline.types import Audio


def test_regression_without_features_gives_the_shares():
    truth = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float64)
    weight, bias = regress(np.zeros((4, 3)), truth, 1e-3, exclusive=True)
    np.testing.assert_allclose(np.exp(bias) / np.exp(bias).sum(), [0.75, 0.25], atol=1e-4)
    np.testing.assert_allclose(weight, 0, atol=1e-6)
    _, bias = regress(np.zeros((4, 3)), truth, 1e-3, exclusive=False)
    np.testing.assert_allclose(1 / (1 + np.exp(-bias)), [0.75, 0.25], atol=1e-4)


def test_the_head_learns_what_can_be_told_apart_and_gives_the_same_bytes_again():
    rng = np.random.default_rng(0)
    heard = rng.normal(size=(40, SUMMARY))
    names = ["rock" if row[0] > 0 else "jazz" for row in heard]
    heard[:, :50] += np.where(np.array(names) == "rock", 2.0, -2.0)[:, None]
    plays = [("organ",) if name == "rock" else () for name in names]
    head = fit_head(heard, names, plays)
    assert (head.styles, head.instruments) == (("jazz", "rock"), ("organ",))
    guess = np.clip((heard - head.mean) / head.scale, -3, 3) @ head.weight + head.bias
    assert [head.styles[k] for k in guess[:, :2].argmax(axis=1)] == names
    np.testing.assert_array_equal(guess[:, 2] > 0, np.array(names) == "rock")
    assert head.to_bytes() == fit_head(heard, names, plays).to_bytes()


def test_one_style_alone_can_not_be_learnt():
    with pytest.raises(ValueError, match="1 styles in 3 songs"):
        fit_head(np.zeros((3, SUMMARY)), ["pop"] * 3, [()] * 3)


def test_directions_point_at_their_texts():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(3, 384))
    word = np.repeat(np.arange(3), [4, 9, 20])
    texts = centres[word] + 0.5 * rng.normal(size=(33, 384))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    vectors = fit_directions(texts, word, 3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1)
    np.testing.assert_array_equal((texts @ vectors.T).argmax(axis=1), word)


def test_every_style_of_the_renderer_has_phrases():
    assert set(GENRES) == set(SOUNDS) == set(styles())
    for name, style in styles().items():
        assert len(set(about_style(name, style.words, style.moods))) > 60


def test_a_style_without_phrases_is_told_in_the_renderers_own_words():
    assert "a grim yodel song" in list(about_style("yodel", ["yodel"], ["grim"]))


def test_every_family_has_other_names():
    known = {family(program) for program in range(128)} | {family(0, drums=True)}
    assert set(INSTRUMENTS) <= known
    assert "a song with banjo" in list(about_instrument("banjo"))


@pytest.mark.parametrize(
    ("program", "word"), [(0, "piano"), (30, "distorted guitar"), (48, "strings"), (110, "strings"), (127, "")]
)
def test_families(program, word):
    assert family(program) == word


def test_families_are_told_once_in_order_and_drums_whatever_their_program():
    assert families([48, 0, 40, 122], [False, True, False, False]) == ("strings", "drums")


def test_a_program_that_general_midi_lacks_is_refused():
    with pytest.raises(ValueError, match="program is 128"):
        family(128)


@pytest.mark.parametrize(("length", "place", "start"), [(10, 0.5, 0), (30, 0.5, 5), (30, 0.0, 0), (30, 1.0, 10)])
def test_a_stretch(length, place, start):
    audio = Audio(np.arange(length, dtype=np.float32)[None], 10)
    expected = np.arange(start, start + min(length, 20))
    np.testing.assert_array_equal(training.stretch(audio, 2.0, place).samples[0], expected)


def test_what_was_heard_is_kept_and_only_training_seeds_are_taken(tmp_path):
    for seed, kind in ((7, "song"), (8, "speech"), (500_000, "song")):
        folder = tmp_path / f"{kind}-{seed}"
        folder.mkdir()
        truth = {"seed": seed, "kind": kind, "renderer_version": RENDERER_VERSION}
        (folder / "truth.json").write_text(json.dumps(truth))
    assert [path.name for path in training.training_songs([tmp_path])] == ["song-7"]

    heard = Heard(np.full((2, 100), 0.5, np.float32), np.zeros((2, 400), np.float32))
    kept = tmp_path / "kept.npz"
    told = {"tags": heard.tags, "embedding": heard.embedding, "style": "pop"}
    np.savez(kept, programs=[0, 0], drums=[False, True], **told)
    example = training.read_example(kept)
    assert (example.style, example.instruments) == ("pop", ("piano",))
    np.testing.assert_array_equal(example.heard.summary(), heard.summary())
