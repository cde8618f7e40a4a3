"""The embedded conditioner: one width, unit vectors, one space for words and sounds."""

import numpy as np
import pytest

from pipeline.conditioning.conditioner import Conditioner, ConditioningConfig, build
from pipeline.conditioning.directions import Directions, WordVectors, load_vectors
from pipeline.conditioning.embedded import VOICE_TAGS
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio

RATE = 24_000


@pytest.fixture(scope="module")
def conditioner() -> Conditioner:
    return build(ConditioningConfig())


def plucks(seconds: float = 6.0) -> Audio:
    """A decaying chord once a second: a guitar or a harp to the taggers."""
    t = np.arange(int(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * f * t) / (i + 1) for i, f in enumerate((110, 220, 277.2, 329.6, 440, 659.3)))
    return Audio((0.2 * chord * np.exp(-3 * (t % 1.0))).astype(np.float32)[None], RATE)


def kicks(seconds: float = 6.0) -> Audio:
    """Four kicks and hats to the half second: a dance floor to the taggers."""
    t = np.arange(int(seconds * RATE)) / RATE
    kick = np.sin(2 * np.pi * 50 * (t % 0.5)) * np.exp(-12 * (t % 0.5))
    hat = np.random.default_rng(0).standard_normal(len(t)) * np.exp(-60 * ((t + 0.25) % 0.5))
    buzz = np.sign(np.sin(2 * np.pi * 55 * t)) * ((t % 0.25) > 0.1)
    return Audio((0.6 * kick + 0.1 * hat + 0.1 * buzz).astype(np.float32)[None], RATE)


def test_text_and_audio_have_the_one_declared_width_and_norm_1(conditioner):
    text, audio = conditioner.text(["", "warm strings"]), conditioner.audio(plucks())
    assert text.shape == (2, conditioner.spec.width)
    assert audio.shape == (conditioner.spec.width,)
    assert text.dtype == audio.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(audio) == pytest.approx(1, abs=1e-5)


def test_texts_keep_minilms_own_vectors(conditioner):
    texts = ["a song with banjo", "", "tax law"]
    np.testing.assert_array_equal(conditioner.text(texts), conditioner._minilm(texts))


def test_the_same_audio_gives_the_same_bytes(conditioner):
    assert conditioner.audio(plucks()).tobytes() == conditioner.audio(plucks()).tobytes()


def test_stereo_is_collapsed_to_mono(conditioner):
    mono = plucks()
    stereo = Audio(np.concatenate([1.5 * mono.samples, 0.5 * mono.samples]), RATE)
    np.testing.assert_allclose(conditioner.audio(stereo), conditioner.audio(mono), atol=1e-4)


def test_silence_and_short_audio_have_vectors(conditioner):
    for audio in (Audio(np.zeros((2, RATE), np.float32), RATE), plucks(0.5)):
        assert np.linalg.norm(conditioner.audio(audio)) == pytest.approx(1, abs=1e-5)


def test_words_find_their_sound(conditioner):
    """The claim behind `joint_space`, in its smallest form; `flows.bench.conditioning` measures the larger one."""
    assert conditioner.spec.joint_space
    texts = conditioner.text(["solo acoustic guitar", "electronic techno dance music with beats"])
    sounds = np.stack([conditioner.audio(plucks()), conditioner.audio(kicks())])
    likeness = texts @ sounds.T
    assert likeness[0, 0] - likeness[0, 1] > 0.02
    assert likeness[1, 1] - likeness[1, 0] > 0.02


def test_tags_about_voices_do_not_count_and_the_others_are_centred(conditioner):
    vectors, labels = conditioner._tag_vectors, conditioner._listener.labels
    assert set(labels) >= VOICE_TAGS
    assert {label for label, row in zip(labels, vectors, strict=True) if not row.any()} == VOICE_TAGS
    np.testing.assert_allclose(vectors.sum(axis=0), 0, atol=1e-9)


def test_a_style_lies_nearest_to_its_own_name(conditioner):
    head = conditioner._words.head
    directions = conditioner._directions.vectors[: len(head.styles)]
    nearest = (conditioner.text([f"{style} music" for style in head.styles]) @ directions.T).argmax(axis=1)
    np.testing.assert_array_equal(nearest, np.arange(len(head.styles)))


def test_the_record_names_weights_and_licence(conditioner):
    assert conditioner.spec.name == "embedded"
    assert len(conditioner.spec.weights_sha256) == 64
    assert "ISC" in conditioner.spec.licence
    assert "words" in conditioner.spec.licence


def test_directions_are_read_as_they_were_written(tmp_path):
    vectors = np.eye(384)[:2]
    path = tmp_path / "directions.safetensors"
    path.write_bytes(WordVectors(("pop", "organ"), vectors).to_bytes())
    np.testing.assert_array_equal(load_vectors(path).vectors, vectors)
    np.testing.assert_array_equal(Directions(("pop", "organ"), path).vectors, vectors)


def test_directions_of_other_words_than_the_heads_are_refused(tmp_path):
    path = tmp_path / "directions.safetensors"
    path.write_bytes(WordVectors(("pop",), np.eye(384)[:1]).to_bytes())
    with pytest.raises(BackendUnavailable, match=r"other words than the head: \['rock'\]"):
        Directions(("pop", "rock"), path)


@pytest.mark.parametrize("content", [b"", b"not safetensors"])
def test_a_file_that_holds_no_directions_is_refused(tmp_path, content):
    path = tmp_path / "directions.safetensors"
    path.write_bytes(content)
    with pytest.raises(BackendUnavailable, match="holds no directions"):
        load_vectors(path)


def test_as_many_directions_as_words():
    with pytest.raises(ValueError, match=r"expected \(2, 384\)"):
        WordVectors(("pop", "rock"), np.zeros((1, 384)))
