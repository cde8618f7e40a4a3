import json
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making_samples import make_sample, with_info

from pipeline.records.schema import SCHEMA_VERSION, ContractError, Sample, SectionRecord, plain

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None)
@given(
    seconds=st.floats(0, 3),
    phases=st.integers(1, 3),
    balanced=st.integers(0, 2),
    references=st.integers(0, 2),
    captions=st.integers(0, 2),
    split=st.sampled_from(["train", "val", "test"]),
    lyrics=words,
    beats=st.lists(finite, max_size=5),
)
def test_any_sample_comes_back_and_its_bytes_are_a_function_of_it(
    seconds, phases, balanced, references, captions, split, lyrics, beats
):
    made = make_sample(
        split=split, seconds=seconds, phases=phases, balanced=balanced, references=references, captions=captions
    )
    sample = with_info(made, lyrics=lyrics, beats=tuple(beats), captions=tuple([lyrics] * captions))
    files = sample.to_files()
    back = Sample.from_files(files)
    assert back.info == sample.info
    assert back.to_files() == files
    for name in ("vocal", "accompaniment", "reference", "text"):
        assert np.array_equal(getattr(back, name), getattr(sample, name))


def test_memory_order_and_key_order_change_no_byte():
    sample = make_sample(phases=3, balanced=2)
    other = replace(sample, accompaniment=np.asfortranarray(sample.accompaniment))
    other = with_info(other, scores=dict(reversed(sample.info.scores.items())))
    assert other.to_files() == sample.to_files()


def test_latents_travel():
    plain = make_sample()
    sample = replace(plain, latents={"vocal": np.ones((*plain.vocal.shape, 3), np.float16)})
    files = sample.to_files()
    assert "latent.vocal.npy" in files
    assert np.array_equal(Sample.from_files(files).latents["vocal"], sample.latents["vocal"])


@pytest.mark.parametrize(
    ("name", "latent"),
    [("vocal", np.ones((2, 3), np.float16)), ("accompaniment", np.ones((1, 1, 1, 3), np.float32))],
)
def test_latents_fit_their_codes(name: str, latent: np.ndarray):
    with pytest.raises(ContractError, match=rf"latent\.{name}"):
        replace(make_sample(), latents={name: latent}).validate()
    with pytest.raises(ContractError, match=r"latent\.other"):
        replace(make_sample(), latents={"other": latent}).validate()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": "a.b"}, "key 'a.b'"),
        ({"key": "a/b"}, "key 'a/b'"),
        ({"key": ""}, "key ''"),
        ({"tokens": 50}, "50 tokens do not fit 96000 samples"),
        ({"split": "dev"}, "split 'dev'"),
        ({"selection": "review"}, "selection 'review'"),
        ({"split": "test"}, "test samples have no balanced variants"),
        ({"accompaniment_variants": ()}, "variant 0"),
        ({"captions": ("a", "b")}, ".text"),
        ({"reference_spans": ()}, ".reference"),
    ],
)
def test_what_breaks_the_contract_is_named(changes, words):
    with pytest.raises(ContractError, match=words):
        with_info(make_sample(), **changes).validate()


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("vocal", np.zeros((1, 51), np.int64), "int64"),
        ("vocal", np.zeros((1, 50), np.uint16), r"\(1, 50\)"),
        ("vocal", np.full((1, 51), 16_384, np.uint16), "code 16384"),
        ("accompaniment", np.zeros((1, 1, 51), np.uint16), r"asks uint16 \(2, 1, 51\)"),
        ("reference", np.zeros((2, 4), np.float16), r"\.reference"),
        ("text", np.zeros((1, 5), np.float16), r"asks float16 \(1, 4\)"),
    ],
)
def test_arrays_fit_their_json(name, array, words):
    with pytest.raises(ContractError, match=words):
        replace(make_sample(), **{name: array}).validate()


def test_not_a_number_can_not_be_written():
    with pytest.raises(ContractError, match="NaN or infinity"):
        with_info(make_sample(), sections=(SectionRecord(0.0, float("nan"), "verse"),)).to_files()


@pytest.mark.parametrize("name", ["json", "vocal.npy", "accompaniment.npy", "reference.npy", "text.npy"])
def test_a_lost_or_torn_file_is_found(name):
    files = make_sample().to_files()
    with pytest.raises(ContractError, match=name.removesuffix(".npy")):
        Sample.from_files({key: data for key, data in files.items() if key != name})
    for data in (b"", files[name][: len(files[name]) // 2]):
        with pytest.raises(ContractError, match="can't be read"):
            Sample.from_files(files | {name: data})


def test_another_schema_version_is_refused():
    files = make_sample().to_files()
    info = json.loads(files["json"]) | {"schema_version": SCHEMA_VERSION + 1}
    with pytest.raises(ContractError, match=f"version {SCHEMA_VERSION + 1}"):
        Sample.from_files(files | {"json": json.dumps(info).encode()})


def test_the_contract_needs_numpy_alone():
    code = "import sys, pipeline.records.schema; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pyarrow", "pydantic", "fsspec", "soundfile"} & set(loaded)


def test_plain_records_are_in_json_what_asdict_makes_of_them() -> None:
    info = make_sample(balanced=2, captions=2).info
    assert json.dumps(plain(info), sort_keys=True) == json.dumps(asdict(info), sort_keys=True)
