"""Read the tensors of a TensorFlow V2 checkpoint with numpy alone, so that published weights need no TensorFlow.

Conventions: a checkpoint is two files, ``<prefix>.index`` (a LevelDB table: sorted keys, prefix-compressed, blocks
optionally Snappy-compressed; each value is a ``BundleEntryProto``) and ``<prefix>.data-00000-of-00001`` (the raw
little-endian tensors). Formats: LevelDB ``doc/table_format.md``, Snappy ``format_description.txt``, TensorFlow
``tensor_bundle.proto``.
"""

import hashlib
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BackendUnavailable

Tensor = NDArray[np.generic]

DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64}  # tensorflow DataType -> numpy
TABLE_MAGIC = 0xDB4775248B80FB57  # last 8 bytes of a LevelDB table
FOOTER_BYTES = 48
SNAPPY = 1  # block compression type


def load(prefix: Path) -> dict[str, Tensor]:
    """Every numeric tensor by its name, as writable copies.

    `prefix` is the path without ``.index``; a folder means the files in it that are named just ``.index`` and
    ``.data-...``. Tensors of other types (strings, such as the object graph) are left out. `BackendUnavailable` if a
    file is missing or isn't such a checkpoint.
    """
    index_path, data_path = _files(prefix)
    try:
        entries = dict(_table(index_path.read_bytes()))
        data = np.fromfile(data_path, dtype=np.uint8)
        return _tensors(entries, data)
    except FileNotFoundError as error:
        raise BackendUnavailable(
            f"checkpoint file {error.filename} is missing: reinstall the package it came with"
        ) from error
    except (ValueError, IndexError, struct.error) as error:
        raise BackendUnavailable(f"{index_path} is not a whole one-shard TensorFlow V2 checkpoint: {error}") from error


@cache
def weights_sha256(prefix: Path) -> str:
    """SHA-256 of the data file, hex; hashed once per process."""
    _, data_path = _files(prefix)
    try:
        with data_path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise BackendUnavailable(
            f"checkpoint file {data_path} is missing: reinstall the package it came with"
        ) from error


def _files(prefix: Path) -> tuple[Path, Path]:
    stem = f"{prefix}/" if prefix.is_dir() else str(prefix)
    return Path(f"{stem}.index"), Path(f"{stem}.data-00000-of-00001")


def _tensors(entries: dict[bytes, bytes], data: NDArray[np.uint8]) -> dict[str, Tensor]:
    shards = _numbers(entries.pop(b"", b"")).get(1, 1)  # the empty key holds the BundleHeaderProto
    if shards != 1:
        raise ValueError(f"it has {shards} shards, only 1 is supported")
    tensors: dict[str, Tensor] = {}
    for key, entry in entries.items():
        numbers = _numbers(entry)
        if numbers.get(1, 0) not in DTYPES:
            continue
        shape = [_numbers(dim).get(1, 0) for dim in _messages(_messages(entry, 2)[0], 2)] if _messages(entry, 2) else []
        start, size = numbers.get(4, 0), numbers.get(5, 0)
        if start + size > data.size:
            raise ValueError(f"the data file has {data.size} bytes, tensor {key.decode()} ends at {start + size}")
        tensors[key.decode()] = (
            np.frombuffer(data[start : start + size].tobytes(), DTYPES[numbers[1]]).reshape(shape).copy()
        )
    return tensors


def _table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = table[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != TABLE_MAGIC:
        raise ValueError("the index doesn't end as a LevelDB table does")
    _, position = _handle(footer, 0)  # meta index, unused
    index_block, _ = _handle(footer, position)
    for _, handle in _entries(_block(table, *index_block)):
        data_block, _ = _handle(handle, 0)
        yield from _entries(_block(table, *data_block))


def _handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _block(table: bytes, offset: int, size: int) -> bytes:
    content, compression = table[offset : offset + size], table[offset + size]
    return _unsnappy(content) if compression == SNAPPY else content


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    (restarts,) = struct.unpack("<I", block[-4:])
    end, position, key = len(block) - 4 - 4 * restarts, 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field number and value of each field of a protocol-buffer message: an int (varint) or its raw bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        if tag & 7 == 0:
            number, position = _varint(message, position)
            yield tag >> 3, number
            continue
        if tag & 7 == 2:
            length, position = _varint(message, position)
        else:
            length = 4 if tag & 7 == 5 else 8
        yield tag >> 3, message[position : position + length]
        position += length


def _numbers(message: bytes) -> dict[int, int]:
    return {number: value for number, value in _fields(message) if isinstance(value, int)}


def _messages(message: bytes, field: int) -> list[bytes]:
    return [value for number, value in _fields(message) if number == field and isinstance(value, bytes)]


def _unsnappy(data: bytes) -> bytes:
    length, position = _varint(data, 0)
    out = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        if tag & 3 == 0:  # literal
            count = tag >> 2
            if count >= 60:
                width = count - 59
                count = int.from_bytes(data[position : position + width], "little")
                position += width
            out += data[position : position + count + 1]
            position += count + 1
            continue
        count, offset, position = _copy(data, tag, position)
        for _ in range(count):  # a copy may overlap what it writes
            out.append(out[-offset])
    if len(out) != length:
        raise ValueError(f"a Snappy block gives {len(out)} bytes instead of {length}")
    return bytes(out)


def _copy(data: bytes, tag: int, position: int) -> tuple[int, int, int]:
    """Length, offset and next position of a Snappy back reference."""
    if tag & 3 == 1:
        return ((tag >> 2) & 7) + 4, (tag >> 5) << 8 | data[position], position + 1
    width = 2 if tag & 3 == 2 else 4
    return (tag >> 2) + 1, int.from_bytes(data[position : position + width], "little"), position + width
