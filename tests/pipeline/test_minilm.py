"""MiniLM in torch: unit vectors, independence, meaning."""

import numpy as np
import pytest

from pipeline.encoders.minilm import MAX_TOKENS, WIDTH, MiniLM


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM()


def test_every_text_has_a_unit_vector_the_empty_one_too(minilm):
    vectors = minilm(["", "jazz", "A slow ballad with piano.", "日本語", "word " * 2000])
    assert (vectors.shape, vectors.dtype) == ((5, WIDTH), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_texts_no_vectors(minilm):
    assert minilm([]).shape == (0, WIDTH)


def test_a_vector_does_not_depend_on_its_neighbours(minilm):
    alone = minilm(["jazz"])[0]
    assert alone.tobytes() == minilm(["a much longer text about something else", "jazz"])[1].tobytes()


def test_texts_are_cut_at_the_models_limit(minilm):
    words = ["guitar"] * (MAX_TOKENS - 2)  # two markers
    assert minilm([" ".join(words)]).tobytes() == minilm([" ".join([*words, "piano"])]).tobytes()
    assert minilm([" ".join(words[:-1])]).tobytes() != minilm([" ".join([*words[:-1], "piano"])]).tobytes()


def test_likeness_of_meaning(minilm):
    folk, ballad, metal = minilm(
        ["a folk song with a female singer", "a slow ballad sung by a woman", "brutal death metal"]
    )
    assert folk @ ballad == pytest.approx(0.637, abs=0.002)  # Hugging Face's BertModel on the same weights: within 4e-6
    assert folk @ metal < 0.2


@pytest.mark.slow
def test_hidden_states_agree_with_transformers(minilm):
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(minilm._weights_path.parent).eval()
    ids = torch.tensor(minilm._tokenizer.encode("warm strings and a mellow, late-night saxophone").ids)
    with torch.inference_mode():
        expected = model(ids[None]).last_hidden_state[0]
        torch.testing.assert_close(minilm._hidden(ids), expected, atol=2e-5, rtol=0)
