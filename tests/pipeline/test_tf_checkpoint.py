"""A checkpoint written here byte by byte must read back; the published ones must have the tensors we need."""

import hashlib
import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.encoders.tf_checkpoint import _unsnappy, load, weights_sha256
from pipeline.errors import BackendUnavailable


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _literal(data: bytes) -> bytes:
    """`data` as one Snappy literal with a two-byte length."""
    return _varint(len(data)) + bytes([61 << 2]) + struct.pack("<H", len(data) - 1) + data


def _run(count: int) -> bytes:
    """`count` times the byte 7 in Snappy: a literal of one and an overlapping copy."""
    return _varint(count) + bytes([0]) + b"\x07" + bytes([(count - 2) << 2 | 2]) + struct.pack("<H", 1)


def _block(entries: list[tuple[bytes, bytes]], *, share: bool) -> bytes:
    out, previous = b"", b""
    for key, value in entries:
        shared = 0
        if share:
            shared = next(
                (i for i, (a, b) in enumerate(zip(key, previous, strict=False)) if a != b), min(len(key), len(previous))
            )
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        previous = key
    return out + struct.pack("<II", 0, 1)


def _write(folder: Path, name: str, tensors: dict[str, np.ndarray], *, snappy: bool = False, shards: int = 1) -> None:
    types = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "uint8": 4}
    entries, data = [(b"", _number(1, shards))], b""
    for key in sorted(tensors):
        value = tensors[key]
        shape = b"".join(_message(2, _number(1, size)) for size in value.shape)
        numbers = _number(4, len(data)) + _number(5, value.nbytes)
        crc = _varint(6 << 3 | 5) + b"\0\0\0\0"
        entries.append((key.encode(), _number(1, types[str(value.dtype)]) + _message(2, shape) + numbers + crc))
        data += value.tobytes()
    table = b""

    def put(block: bytes) -> bytes:
        nonlocal table
        content = _literal(block) if snappy else block
        handle = _varint(len(table)) + _varint(len(content))
        table += content + bytes([snappy]) + b"\0\0\0\0"
        return handle

    first = put(_block(entries, share=True))
    meta, index = put(_block([], share=False)), put(_block([(b"~", first)], share=False))
    table += (meta + index).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / f"{name}.index").write_bytes(table)
    (folder / f"{name}.data-00000-of-00001").write_bytes(data)


TENSORS = {
    "conv/bias": np.arange(5, dtype=np.float32),
    "conv/kernel": np.random.default_rng(0).normal(size=(3, 2, 1, 7)).astype(np.float32),
    "conv/steps": np.array(1 << 40, dtype=np.int64),
    "dense": np.linspace(0, 1, 200),
    "graph": np.zeros(3, dtype=np.uint8),
}


@pytest.mark.parametrize("snappy", [False, True])
@pytest.mark.parametrize("name", ["model", ""])
def test_what_was_written_reads_back(tmp_path: Path, name: str, snappy: bool) -> None:
    _write(tmp_path, name, TENSORS, snappy=snappy)
    found = load(tmp_path / name)
    assert sorted(found) == ["conv/bias", "conv/kernel", "conv/steps", "dense"]  # other types are left out
    for key, value in found.items():
        assert value.dtype == TENSORS[key].dtype
        assert value.flags.writeable
        np.testing.assert_array_equal(value, TENSORS[key])


def test_snappy_copies_may_overlap_what_they_write() -> None:
    assert _unsnappy(_run(40)) == b"\x07" * 40


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=r"model\.index"):
        load(tmp_path / "model")
    with pytest.raises(BackendUnavailable, match=r"model\.data"):
        weights_sha256(tmp_path / "model")


def test_a_cut_data_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, "model", TENSORS)
    data = tmp_path / "model.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-10])
    with pytest.raises(BackendUnavailable, match="ends at"):
        load(tmp_path / "model")


def test_a_cut_index_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, "model", TENSORS)
    index = tmp_path / "model.index"
    index.write_bytes(index.read_bytes()[:-1])
    with pytest.raises(BackendUnavailable, match="LevelDB"):
        load(tmp_path / "model")


def test_several_shards_are_refused(tmp_path: Path) -> None:
    _write(tmp_path, "model", TENSORS, shards=2)
    with pytest.raises(BackendUnavailable, match="2 shards"):
        load(tmp_path / "model")


def test_the_hash_is_that_of_the_data_file(tmp_path: Path) -> None:
    _write(tmp_path, "model", TENSORS)
    data = (tmp_path / "model.data-00000-of-00001").read_bytes()
    assert weights_sha256(tmp_path / "model") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("package", "prefix", "tensor", "shape"),
    [
        ("musicnn", "MTT_musicnn", "batch_normalization/gamma", (1,)),
        ("musicnn", "MSD_musicnn", "batch_normalization/gamma", (1,)),
        ("spleeter", "pretrained_models/2stems/model", "conv2d/kernel", (5, 5, 2, 16)),
    ],
)
def test_published_weights_are_finite(package: str, prefix: str, tensor: str, shape: tuple[int, ...]) -> None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"package {package} is not installed")
    found = load(Path(spec.submodule_search_locations[0]) / prefix)
    assert all(np.isfinite(value).all() for value in found.values())
    assert found[tensor].shape == shape
