"""Every bad file has its own reason; every good one decodes to what was written, whatever its name."""

import io
import math
import os
import shutil
import struct
from functools import cache
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio import (
    LOSSY_SLACK,
    DecodeLimits,
    apply_gain,
    decode,
    encode_bytes,
    probe,
    rms_dbfs,
    to_samples,
    to_seconds,
    write,
)
from pipeline.errors import BadInput
from pipeline.ogg import checksum
from pipeline.types import Audio

RATE = 48_000
FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_16"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
]


def sine(seconds: float = 6.0, frequency: float = 440.0, amplitude: float = 0.5, rate: int = RATE) -> Audio:
    time = np.arange(to_samples(seconds, rate)) / rate
    left = amplitude * np.sin(2 * np.pi * frequency * time)
    return Audio(np.stack([left, 0.5 * left]).astype(np.float32), rate)


def encoded(audio: Audio, format: str, subtype: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.samples.T, audio.sample_rate, format=format, subtype=subtype)
    return buffer.getvalue()


def flac_stating(frames: int) -> bytes:
    """Six seconds of FLAC whose header states another count of frames (STREAMINFO's 36-bit field; 0 = unknown)."""
    content = encoded(sine(), "FLAC", "PCM_16")
    field = int.from_bytes(content[18:26], "big") >> 36 << 36 | frames
    return content[:18] + field.to_bytes(8, "big") + content[26:]


@cache
def twenty_seconds(format: str, subtype: str) -> bytes:
    return encoded(sine(20.0), format, subtype)


@cache
def mp3(rate: int = RATE, mode: str = "CONSTANT") -> bytes:
    """Six seconds, of which the first is silent: a variable bit rate starts low there."""
    audio = sine(rate=rate)
    audio.samples[:, :rate] = 0
    buffer = io.BytesIO()
    options = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": mode, "compression_level": 0.5}
    with soundfile.SoundFile(buffer, "w", rate, 2, **options) as file:
        file.write(audio.samples.T)
    return buffer.getvalue()


def stating_more(content: bytes, frames: int) -> bytes:
    """An mp3 whose header counts more frames than there are."""
    field = max(content.find(b"Info"), content.find(b"Xing")) + 8
    stated = int.from_bytes(content[field : field + 4], "big") + frames
    return content[:field] + stated.to_bytes(4, "big") + content[field + 4 :]


def headerless(content: bytes) -> bytes:
    """An mp3 without its first frame, which holds the count."""
    return content[content.index(content[:2], 2) :]


def delayed(stream: bytes, frames: int) -> bytes:
    """An Ogg as of some encoders: its first block on a page of its own, at a negative time.

    libsndfile counts from there; the decoder gives nothing for it.
    """
    *headers, first = [b"OggS" + rest for rest in stream.split(b"OggS")[1:4]]
    audio = stream[sum(map(len, headers)) :]
    lacing, body = first[27 : 27 + first[26]], first[27 + first[26] :]
    block = next(i for i, size in enumerate(lacing) if size < 255) + 1
    cut = sum(lacing[:block])
    parts = [first[:26] + bytes([block]) + lacing[:block] + body[:cut]]
    parts += [first[:26] + bytes([len(lacing) - block]) + lacing[block:] + body[cut:]]
    parts += [b"OggS" + rest for rest in audio.split(b"OggS")[2:]]
    for number, page in enumerate(parts):
        time = int.from_bytes(page[6:14], "little") if number else -frames
        page = page[:6] + struct.pack("<q", time) + page[14:18] + struct.pack("<II", number + 2, 0) + page[26:]
        parts[number] = page[:22] + struct.pack("<I", checksum(page)) + page[26:]
    return b"".join(headers + parts)


def reason(path: Path, limits: DecodeLimits | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        decode(str(path), limits)
    assert str(path) in str(caught.value)
    return caught.value.reason


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@given(st.integers(0, 10**9), st.sampled_from([8000, 22_050, 44_100, 48_000]))
def test_samples_survive_seconds(samples: int, rate: int) -> None:
    assert to_samples(to_seconds(samples, rate), rate) == samples


def test_halves_round_up() -> None:
    assert [to_samples(x / 2, 1) for x in range(6)] == [0, 1, 1, 2, 2, 3]


@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_every_format_decodes_by_content(tmp_path: Path, format: str, subtype: str) -> None:
    original = sine()
    path = saved(tmp_path / "song.wav", encoded(original, format, subtype))  # the name is wrong for most
    audio = decode(str(path))
    assert (audio.sample_rate, audio.channels, audio.length) == (RATE, 2, original.length)
    middle = slice(RATE, -RATE)
    error = audio.samples[:, middle] - original.samples[:, middle]
    assert np.sqrt(np.mean(error**2)) < 0.02  # lossy codecs included
    found = probe(str(path))
    assert (found.duration, found.sample_rate, found.channels) == (6.0, RATE, 2)


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.97])
@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_a_file_cut_short_is_truncated(tmp_path: Path, format: str, subtype: str, kept: float) -> None:
    content = twenty_seconds(format, subtype)
    assert reason(saved(tmp_path / "song.bin", content[: int(kept * len(content))])) == "truncated"


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")],
)
def test_a_damaged_middle_is_truncated(tmp_path: Path, format: str, subtype: str) -> None:
    noise = np.random.default_rng(0).normal(size=(2, 20 * RATE)).astype(np.float32) * 0.1
    content = bytearray(encoded(Audio(noise, RATE), format, subtype))
    content[len(content) // 3 : len(content) // 3 + 70_000] = bytes(70_000)
    assert reason(saved(tmp_path / "song.bin", bytes(content))) == "truncated"


def test_an_mp3_may_promise_a_little_more_than_it_holds(tmp_path: Path) -> None:
    content = mp3()
    for extra in (1, 5, 10):  # frames of 1152 samples, 24 ms
        path = saved(tmp_path / "song.mp3", stating_more(content, extra))
        assert probe(str(path)).duration == pytest.approx(6.0 + extra * 1152 / RATE)
        assert 0 <= decode(str(path)).length - 6 * RATE < 2 * 1152  # the encoder's padding may be kept
    assert reason(saved(tmp_path / "song.mp3", stating_more(content, 15))) == "truncated"


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("tag", [b"", b"TAG" + bytes(125), b"APETAGEX" + b"cover art " * 6000])
def test_an_mp3_without_a_count_decodes_to_its_end(tmp_path: Path, mode: str, rate: int, tag: bytes) -> None:
    content = headerless(mp3(rate, mode))
    path = saved(tmp_path / "song.mp3", b"ID3\x03\0\0\0\0\x01\0" + bytes(128) + content + tag)
    audio = decode(str(path))
    padded = audio.length - 6 * rate  # delay and padding aren't stated either
    assert 0 <= padded < 3 * 1152
    assert probe(str(path)).duration == audio.duration


def test_a_cut_mp3_without_a_count_is_a_shorter_mp3(tmp_path: Path) -> None:
    content = headerless(mp3())
    half = decode(str(saved(tmp_path / "song.mp3", content[: len(content) // 2])), DecodeLimits(min_seconds=1.0))
    assert half.duration == pytest.approx(3.0, abs=0.05)


def test_an_ogg_that_counts_its_encoders_delay_is_whole(tmp_path: Path) -> None:
    path = saved(tmp_path / "song.ogg", delayed(encoded(sine(), "OGG", "VORBIS"), 104))
    assert probe(str(path)).duration == 6.0 + 104 / RATE
    assert decode(str(path)).length == 6 * RATE
    assert LOSSY_SLACK * RATE > 104


def test_an_ogg_cut_within_its_last_page_is_truncated(tmp_path: Path) -> None:
    content = twenty_seconds("OGG", "VORBIS")  # of a sine, it has a second and more to a page
    for cut in (content[:-1], content[: content.rindex(b"OggS")], content[: content.rindex(b"OggS") + 10]):
        assert reason(saved(tmp_path / "song.ogg", cut)) == "truncated"
    assert decode(str(saved(tmp_path / "tagged.ogg", content + b"TAG" + bytes(125)))).duration == 20.0


def test_a_streamed_wav_with_unknown_size_is_whole(tmp_path: Path) -> None:
    content = encoded(sine(), "WAV", "PCM_16")
    streamed = content[:40] + struct.pack("<I", 0xFFFFFFFF) + content[44:]
    assert decode(str(saved(tmp_path / "song.wav", streamed))).length == 6 * RATE


def test_a_flac_without_a_length_is_unreadable(tmp_path: Path) -> None:
    path = saved(tmp_path / "piped.flac", flac_stating(0))
    assert reason(path) == "unreadable"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.wav", b"these are words, not samples\n" * 100),
        ("photo.mp3", b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(range(256)) * 40),
        ("archive.flac", b"PK\x03\x04" + bytes(3000)),
        ("header-only.wav", b"RIFF\x24\0\0\0WAVE"),
        ("zeros.ogg", bytes(5000)),
    ],
)
def test_what_is_not_audio_is_unreadable(tmp_path: Path, name: str, content: bytes) -> None:
    assert reason(saved(tmp_path / name, content)) == "unreadable"


def test_a_folder_is_unreadable(tmp_path: Path) -> None:
    assert reason(tmp_path) == "unreadable"


def test_no_file_is_missing(tmp_path: Path) -> None:
    assert reason(tmp_path / "gone.wav") == "missing"


def test_no_bytes_and_no_frames_are_empty(tmp_path: Path) -> None:
    assert reason(saved(tmp_path / "zero.wav", b"")) == "empty"
    assert reason(saved(tmp_path / "frameless.wav", encoded(sine(0.0), "WAV", "PCM_16"))) == "empty"


def test_length_limits(tmp_path: Path) -> None:
    path = saved(tmp_path / "song.wav", encoded(sine(6.0), "WAV", "PCM_16"))
    assert reason(path, DecodeLimits(min_seconds=6.1)) == "too_short"
    assert reason(path, DecodeLimits(max_seconds=5.9)) == "too_long"
    assert decode(str(path), DecodeLimits(min_seconds=6.0, max_seconds=6.0)).duration == 6.0


def test_ten_hours_are_refused_by_the_header_alone(tmp_path: Path) -> None:
    path = saved(tmp_path / "long.flac", flac_stating(10 * 3600 * RATE)[:50_000])
    assert reason(path) == "too_long"  # reading would have said truncated


def test_a_header_that_says_less_than_the_file_holds_bounds_what_is_read(tmp_path: Path) -> None:
    whole = encoded(sine(9.0), "FLAC", "PCM_16")
    said = bytearray(whole)
    said[18:26] = (int.from_bytes(whole[18:26]) & ~(2**36 - 1) | 6 * RATE).to_bytes(8)
    assert decode(str(saved(tmp_path / "song.flac", bytes(said)))).duration == 6.0


def test_ten_hours_of_mp3_are_refused_by_their_size_whatever_their_header_says(tmp_path: Path) -> None:
    path = saved(tmp_path / "long.mp3", encoded(sine(6.0), "MP3", "MPEG_LAYER_III"))
    assert probe(str(path)).duration == pytest.approx(6.0, abs=0.05)
    os.truncate(path, 10 * 3600 * 40_000)  # 1.4 GB without a block on the disk: reading them would take seconds
    assert reason(path) == "too_long"


def test_many_channels_at_a_high_rate_are_refused_by_their_size_in_memory(tmp_path: Path) -> None:
    wide = Audio(np.tile(sine(6.0).samples, (4, 1)), RATE)
    path = saved(tmp_path / "wide.wav", encoded(wide, "WAV", "PCM_16"))
    size = 6 * RATE * 8 * 4
    assert decode(str(path), DecodeLimits(max_bytes=size)).channels == 2
    assert reason(path, DecodeLimits(max_bytes=size - 1)) == "too_long"


def test_telephone_audio_is_low_sample_rate(tmp_path: Path) -> None:
    path = saved(tmp_path / "call.wav", encoded(sine(6.0, rate=8000), "WAV", "PCM_16"))
    assert reason(path) == "low_sample_rate"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_not_finite(tmp_path: Path, bad: float) -> None:
    audio = sine()
    audio.samples[1, 1000] = bad
    assert reason(saved(tmp_path / "song.wav", encoded(audio, "WAV", "FLOAT"))) == "not_finite"


def test_silence_is_silent(tmp_path: Path) -> None:
    quiet = sine(amplitude=0.0005)
    assert rms_dbfs(quiet) < -60
    assert reason(saved(tmp_path / "quiet.wav", encoded(quiet, "WAV", "FLOAT"))) == "silent"
    assert reason(saved(tmp_path / "zero.wav", encoded(apply_gain(quiet, -200), "WAV", "PCM_16"))) == "silent"


def test_any_fsspec_address_and_odd_names(tmp_path: Path) -> None:
    content = encoded(sine(), "FLAC", "PCM_16")
    path = saved(tmp_path / "50% [live] *?.flac", content)
    with fsspec.open("memory://audio/song.flac", "wb") as file:
        file.write(content)
    expected = decode(str(path)).samples
    for uri in (f"file://{path}", "memory://audio/song.flac"):
        np.testing.assert_array_equal(decode(uri).samples, expected)
    with pytest.raises(BadInput) as caught:
        decode("memory://audio/none.flac")
    assert caught.value.reason == "missing"
    with pytest.raises(BadInput) as caught:
        decode("memory://audio/song.flac", DecodeLimits(max_remote_bytes=100))
    assert caught.value.reason == "too_long"


def test_a_colon_twice_in_a_path_is_no_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "live::2024"
    folder.mkdir()
    path = saved(folder / "a::b.wav", encoded(sine(), "WAV", "PCM_16"))
    monkeypatch.chdir(folder)
    for uri in (str(path), f"file://{path}", "a::b.wav", os.path.join(".", "a::b.wav")):
        assert decode(uri).length == 6 * RATE
    assert reason(folder / "gone::b.wav") == "missing"


def test_mono_stays_mono_and_surround_becomes_stereo(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 6 * RATE)).astype(np.float32)
    mono = decode(str(saved(tmp_path / "mono.wav", encoded(Audio(noise[:1], RATE), "WAV", "FLOAT"))))
    np.testing.assert_array_equal(mono.samples, noise[:1])
    wide = decode(str(saved(tmp_path / "wide.wav", encoded(Audio(noise, RATE), "WAV", "FLOAT"))))
    np.testing.assert_allclose(wide.samples, np.repeat(noise.mean(axis=0, keepdims=True), 2, axis=0), atol=1e-6)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_writing_is_repeatable_and_reads_back(tmp_path: Path, suffix: str) -> None:
    audio = sine()
    for name in ("a", "b"):
        write(tmp_path / f"{name}{suffix}", audio)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    back = decode(str(tmp_path / f"a{suffix}"))
    assert back.length == audio.length
    assert np.max(np.abs(back.samples - audio.samples)) < (0.05 if suffix == ".ogg" else 2**-15)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


def test_samples_beyond_full_scale_are_clipped_not_wrapped() -> None:
    loud = Audio(np.array([[1.5, -1.5, 0.0]], np.float32), RATE)
    frames, _ = soundfile.read(io.BytesIO(encode_bytes(loud, "WAV")))
    np.testing.assert_allclose(frames, [1, -1, 0], atol=1e-4)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "song.flac"
    write(path, sine())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="mp4"):
        write(tmp_path / "song.mp4", sine())
    with pytest.raises(soundfile.LibsndfileError):
        write(path, Audio(np.zeros((9, 100), np.float32), RATE))  # FLAC holds at most eight channels
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_no_file_handle_is_left_open(tmp_path: Path) -> None:
    path = saved(tmp_path / "song.wav", b"not audio at all, only words in a row")
    assert reason(path) == "unreadable"
    shutil.rmtree(tmp_path)  # and pytest turns a ResourceWarning into an error
