import hashlib
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.records.files import DamageError
from pipeline.records.store import Artefact, Store
from pipeline.types import Audio

TRACK = "ab12" * 8
STEP = 2.0**-23  # of 24-bit PCM

pcm = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(-6, 6, width=32))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("stage") / "separation-00000000")


@settings(deadline=None)
@given(samples=pcm, rate=st.sampled_from([16_000, 44_100, 48_000, 96_000]))
def test_audio_comes_back_to_24_bits_of_its_peak_even_above_full_scale(store, samples, rate):
    audio = Audio(samples, rate)
    back = store.get_audio(store.put_audio(TRACK, "vocal", audio))
    assert back.sample_rate == rate
    assert back.samples.shape == samples.shape
    headroom = 2 ** max(0, np.ceil(np.log2(max(np.abs(samples).max(), 1e-9))))
    assert np.abs(back.samples.astype(np.float64) - samples).max() <= headroom * STEP


def test_16_and_24_bit_sources_come_back_exactly(store):
    for bits in (16, 24):
        steps = np.random.default_rng(bits).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (2, 1000))
        audio = Audio((steps / 2 ** (bits - 1)).astype(np.float32), 44_100)
        assert np.array_equal(store.get_audio(store.put_audio(TRACK, "mix", audio)).samples, audio.samples)


def test_same_content_same_file_and_other_content_another_file(store):
    first = store.put_audio(TRACK, "vocal", Audio(np.zeros((1, 100), np.float32), 48_000))
    second = store.put_audio(TRACK, "vocal", Audio(np.ones((1, 100), np.float32), 48_000))
    assert store.put_audio(TRACK, "vocal", Audio(np.zeros((1, 100), np.float32), 48_000)) == first
    assert first.path != second.path
    assert first.path.startswith(f"audio/ab/{TRACK}-vocal-")
    assert store.get_audio(first).samples.max() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_audio_that_is_not_finite_is_refused(store, bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        store.put_audio(TRACK, "vocal", Audio(np.array([[0, bad]], np.float32), 48_000))


def test_arrays_come_back_whatever_their_memory_order(store):
    grid = np.arange(12, dtype=np.uint16).reshape(3, 4)
    arrays = {
        "b": grid[:, ::2].T,
        "a": np.float16([[0.5]]),
        "c": np.array(3, np.int64),
        "none": np.zeros((0, 2), np.float32),
    }
    artefact = store.put_arrays(TRACK, "tokens", arrays)
    assert store.put_arrays(TRACK, "tokens", dict(reversed(arrays.items()))) == artefact
    back = store.get_arrays(artefact)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        assert np.array_equal(back[name], array)


def test_damage_is_named_and_a_new_put_mends_it(store):
    numbers = {"n": np.arange(3)}
    artefact = store.put_arrays(TRACK, "page", numbers)
    path = store.path(artefact)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"?")
    with pytest.raises(DamageError, match="sha256"):
        store.get_bytes(artefact)
    path.unlink()
    with pytest.raises(DamageError, match="is missing"):
        store.get_bytes(artefact)
    assert store.put_arrays(TRACK, "page", numbers) == artefact
    assert store.get_bytes(artefact) == good


def test_an_attempt_left_behind_is_no_artefact(store):
    artefact = store.put_arrays(TRACK, "log", {})
    (store.path(artefact).parent / ".attempt-1-log").write_bytes(b"te")
    assert store.put_arrays(TRACK, "log", {}) == artefact
    assert sorted(os.listdir(store.path(artefact).parent))[0].startswith(".attempt-")


@pytest.mark.parametrize(("track", "name"), [("../../x", "vocal"), (TRACK, "a/b"), (TRACK, "Vocal.1"), ("", "vocal")])
def test_names_that_would_leave_the_store_are_refused(store, track, name):
    with pytest.raises(ValueError, match="file name"):
        store.put_arrays(track, name, {})


def test_an_artefact_says_what_lies_there(store):
    artefact = store.put_arrays(TRACK, "bare", {"n": np.zeros(2)})
    data = store.path(artefact).read_bytes()
    assert artefact == Artefact("bare", artefact.path, hashlib.sha256(data).hexdigest(), len(data))
