"""The count of frames is that of the encoder's own header, whatever surrounds or damages the frames."""

import io

import numpy as np
import pytest
import soundfile

from pipeline.mp3 import find_frames, with_count


def encoded(rate: int, channels: int, mode: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).normal(size=(3 * rate, channels)).astype(np.float32) * 0.1
    options = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": mode, "compression_level": 0.5}
    with soundfile.SoundFile(buffer, "w", rate, channels, **options) as file:
        file.write(noise)
    return buffer.getvalue()


def stated(content: bytes) -> int:
    field = max(content.find(b"Info"), content.find(b"Xing")) + 8
    return int.from_bytes(content[field : field + 4], "big")


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])  # MPEG 2.5, 2, 2, 1, 1
def test_the_walk_finds_what_the_encoder_states(rate: int, channels: int, mode: str) -> None:
    content = encoded(rate, channels, mode)
    frames = find_frames(content)
    assert frames.count == stated(content) + 1  # the header's own frame
    assert (frames.start, frames.end) == (0, len(content))
    assert with_count(content) == content


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_a_stripped_header_is_put_back(rate: int, channels: int) -> None:
    content = encoded(rate, channels, "VARIABLE")
    bare = content[content.index(content[:2], 2) :]  # from the second frame on
    counted = with_count(bare)
    assert stated(counted) == stated(content)
    assert counted.endswith(bare)
    decoded, _ = soundfile.read(io.BytesIO(counted), always_2d=True)
    expected, _ = soundfile.read(io.BytesIO(content), always_2d=True)
    delay = np.argmax([np.dot(decoded[k : k + rate, 0], expected[:rate, 0]) for k in range(2000)])
    np.testing.assert_allclose(decoded[delay : delay + 2 * rate], expected[: 2 * rate], atol=1e-4)


def test_tags_and_a_cut_frame_are_left_out() -> None:
    content = encoded(44_100, 2, "CONSTANT")
    frames = find_frames(b"ID3\4\0\x10\0\0\1\0" + bytes(128 + 10) + content + b"\xff\xfbTAG" + bytes(125))
    assert (frames.start, frames.end - frames.start, frames.count) == (148, len(content), stated(content) + 1)
    assert find_frames(content[:-1]).count == stated(content)


def test_a_damaged_stretch_costs_its_frames_only() -> None:
    content = encoded(48_000, 2, "CONSTANT")
    frame = len(content) // (stated(content) + 1)  # at 48 kHz all are of one size
    damaged = bytearray(content)
    damaged[10 * frame : 12 * frame] = bytes(2 * frame)
    assert stated(content) + 1 - find_frames(bytes(damaged)).count == 2


@pytest.mark.parametrize("content", [b"", b"ID3", b"\xff" * 5000, b"\xff\xfd\x90\0" * 500, bytes(5000)])
def test_without_frames_there_is_no_count(content: bytes) -> None:
    with pytest.raises(ValueError, match="layer III"):
        with_count(content)
