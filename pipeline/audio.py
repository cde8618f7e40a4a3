"""Audio in and out: decode any file once and judge whether it can be used, resample, measure, write.

Conventions: full scale is +-1; levels are dBFS, so that a full-scale sine has -3.01; the format of a file is that of
its content, whatever its name says; `to_samples` is the only rounding rule from seconds to samples.
"""

import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast
from uuid import uuid4

import numpy as np
import soundfile
import soxr
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline.config import Config
from pipeline.errors import BadInput
from pipeline.mp3 import with_count
from pipeline.ogg import LONGEST_PAGE, has_end, with_serial
from pipeline.types import Audio, Samples, Seconds

FLOOR_DBFS = -120.0  # what rms_dbfs and peak_dbfs give for digital silence
UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's frame count of a stream whose header states none
UNKNOWN_BYTES = 0x7FFFF000  # from here on, a RIFF size is a streaming writer's "not known" (SoX, FFmpeg)
BLOCK_FRAMES = 65_536
# s that may be missing at the end of an Ogg or mp3; ours: nine mp3 frames. Whole Vorbis files of Debian's
# hyperrogue-music lack 104 samples of their stated length, which starts before zero
LOSSY_SLACK = 0.25
MP3_BYTES_PER_SECOND = 40_000  # the most that a frame of layer III can hold: 320 kbit/s
MP3_TAGS = 2**26  # bytes; more than any cover picture. Ours
EXTENSIONS: dict[str, Literal["FLAC", "WAV", "OGG"]] = {".flac": "FLAC", ".wav": "WAV", ".ogg": "OGG"}
SUBTYPES = {"FLAC": "PCM_16", "WAV": "PCM_16", "OGG": "VORBIS"}
READABLE = "wav, flac, ogg, opus or mp3"


class DecodeLimits(Config):
    """What a usable file is. All ours."""

    min_seconds: float = 5.0  # s; the shortest that still holds a musical phrase
    max_seconds: float = 1800.0  # s; 0.7 GB of 48 kHz stereo in memory. Nothing is streamed: longer files are refused
    max_bytes: int = 2**31  # bytes of float samples, all channels: 30 min of 96 kHz stereo are 1.4 GB
    min_sample_rate: int = 16_000  # Hz; below, the band stops under 8 kHz: telephone audio
    silence_dbfs: float = -60.0  # dBFS RMS of the whole file
    max_remote_bytes: int = 2**31  # bytes; a file that isn't local is fetched into memory


@dataclass(frozen=True, slots=True)
class Probe:
    """What a file's header says."""

    duration: Seconds
    sample_rate: int  # Hz
    channels: int


def to_samples(seconds: Seconds, sample_rate: int) -> int:
    """The sample nearest to a time, halves up."""
    return math.floor(seconds * sample_rate + 0.5)


def to_seconds(samples: int, sample_rate: int) -> Seconds:
    return samples / sample_rate


def probe(uri: str, limits: DecodeLimits | None = None) -> Probe:
    """Read the header. `BadInput` as in `decode`: missing, empty, unreadable, truncated; too big to fetch: too_long."""
    with _open(uri, limits or DecodeLimits()) as file:
        return Probe(to_seconds(file.frames, file.samplerate), file.samplerate, file.channels)


def decode(uri: str, limits: DecodeLimits | None = None) -> Audio:
    """Read a path or any fsspec URI at its own rate: mono or stereo; more channels become their mean, twice.

    `BadInput` with a reason: missing, empty, unreadable, truncated, too_short, too_long, low_sample_rate, not_finite,
    silent. Length and rate are judged by the header, before the audio is read.

    A file is truncated if its container says so, or if less can be decoded than its header states: any frame of WAV,
    AIFF or FLAC, more than `LOSSY_SLACK` of Ogg or mp3. An Ogg must also end with its end-of-stream mark. An mp3
    without a Xing header states no length: cut, it is a shorter mp3, and no one can tell.
    """
    limits = limits or DecodeLimits()
    with _open(uri, limits) as file:
        _check_header(uri, file, limits)
        samples = _read(uri, file)
        audio = Audio(samples, file.samplerate)
    _check_content(uri, audio, limits)
    return audio if audio.channels <= 2 else as_stereo(audio.mono())


class _Forward(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A file that is read in one go: soundfile then doesn't seek after reading, which some can't."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _open(uri: str, limits: DecodeLimits) -> Iterator[soundfile.SoundFile]:
    with closing(_source(uri, limits)) as source, _recognised(uri, source) as file:
        counted = _counted(uri, source, limits) if file.format == "MP3" else None
        if counted is None:
            yield file
        else:
            with _recognised(uri, counted) as again:
                yield again


@contextmanager
def _recognised(uri: str, source: BinaryIO) -> Iterator[soundfile.SoundFile]:
    try:  # libsndfile reads a file of the disk by itself; one in memory asks Python for every few kB
        file = _Forward(source.fileno() if isinstance(source, io.FileIO) else source, closefd=False)
    except soundfile.LibsndfileError as error:
        raise BadInput(f"{uri}: {error.error_string} Give {READABLE}.", "unreadable") from error
    with file:
        complaint = _promised_more(file.extra_info)
        if file.format == "OGG" and not has_end(_tail(source)):  # libsndfile misses a cut within the last page
            complaint = "its last Ogg page is cut or lacks the end-of-stream mark"
        if complaint:
            raise BadInput(f"{uri}: the file is cut short: {complaint}. Fetch it again.", "truncated")
        if file.frames == 0:
            raise BadInput(f"{uri}: the file holds no audio (0 frames).", "empty")
        if file.frames == UNKNOWN_FRAMES:
            text = f"{uri}: its header states no length, as in a piped FLAC. Encode it again."
            raise BadInput(text, "unreadable")
        yield file


def _counted(uri: str, source: BinaryIO, limits: DecodeLimits) -> BinaryIO | None:
    """An mp3 in memory, its count of frames stated: libsndfile only guesses it where the file doesn't say.

    None where it says so itself; the reading position stays where it is.
    """
    position = source.tell()
    size, most = source.seek(0, io.SEEK_END), round(limits.max_seconds * MP3_BYTES_PER_SECOND) + MP3_TAGS
    if size > most:
        text = f"{uri}: {size} bytes, and {limits.max_seconds} s of mp3 have {most} at most. Split the file."
        raise BadInput(text, "too_long")
    source.seek(0)
    content = source.read()
    source.seek(position)
    try:
        counted = with_count(content)
    except ValueError as error:
        raise BadInput(f"{uri}: not an mp3 of layer III: {error}. Give {READABLE}.", "unreadable") from error
    return None if counted is content else io.BytesIO(counted)


def _source(uri: str, limits: DecodeLimits) -> BinaryIO:
    """A seekable binary file: the local file itself, or the whole remote file in memory.

    In memory, because a network error must be raised here and not be swallowed in libsndfile's callbacks.
    """
    local = "://" not in uri or uri.startswith("file://")  # fsspec would read "a::b.wav" as a chain of file systems
    filesystem, path = (LocalFileSystem(), uri) if local else url_to_fs(uri)
    try:
        size = filesystem.size(path) if filesystem.isfile(path) else None
        if size is None and filesystem.isdir(path):
            raise BadInput(f"{uri}: this is a folder. Give {READABLE}.", "unreadable")
        if size == 0:
            raise BadInput(f"{uri}: the file has 0 bytes. Fetch it again.", "empty")
        if not local and size is not None and size > limits.max_remote_bytes:
            raise BadInput(f"{uri}: {size} bytes, limit {limits.max_remote_bytes}. Split the file.", "too_long")
        if local:
            return cast(BinaryIO, io.FileIO(LocalFileSystem._strip_protocol(uri)))
        with filesystem.open(path, "rb") as opened:
            return io.BytesIO(opened.read())
    except FileNotFoundError as error:
        raise BadInput(f"{uri}: no such file. Check the path or put the file back.", "missing") from error


def _tail(source: BinaryIO) -> bytes:
    """The bytes that hold an Ogg's last page, and a tag after it; the reading position stays where it is."""
    position = source.tell()
    source.seek(max(0, source.seek(0, io.SEEK_END) - 2 * LONGEST_PAGE))
    tail = source.read()
    source.seek(position)
    return tail


def _promised_more(log: str) -> str:
    """libsndfile's own note that a container promises more than the file holds, else ''."""
    for name, promised, found in re.findall(r"^\s*(data|SSND|riff)\s*:\s*(\d+) \(should be (\d+)\)", log, re.MULTILINE):
        if int(found) < int(promised) < UNKNOWN_BYTES:
            return f"its {name} chunk states {promised} bytes and has {found}"
    if "does not match value from 'ds64' chunk" in log:
        return "it has fewer frames than its ds64 chunk states"
    return ""


def _check_header(uri: str, file: soundfile.SoundFile, limits: DecodeLimits) -> None:
    if file.samplerate < limits.min_sample_rate:
        text = f"{uri}: sample rate {file.samplerate} Hz, limit {limits.min_sample_rate} Hz. Find a better copy."
        raise BadInput(text, "low_sample_rate")
    seconds = to_seconds(file.frames, file.samplerate)
    if seconds > limits.max_seconds:
        raise BadInput(f"{uri}: {seconds:.1f} s, limit {limits.max_seconds} s. Split the file.", "too_long")
    if (size := file.frames * file.channels * 4) > limits.max_bytes:
        text = f"{uri}: {file.channels} channels at {file.samplerate} Hz are {size} bytes in memory, limit "
        raise BadInput(f"{text}{limits.max_bytes}. Mix it to stereo at 48 kHz or split the file.", "too_long")
    if seconds < limits.min_seconds:
        raise BadInput(f"{uri}: {seconds:.2f} s, limit {limits.min_seconds} s. Leave it out.", "too_short")


def _read(uri: str, file: soundfile.SoundFile) -> Samples:
    """[channels, frames]; `BadInput` where the audio ends or breaks before the header's count, less the slack.

    In one call: the decoders are up to 15 % slower in blocks of 0.1 to 2 MB.
    """
    exact = file.subtype == "PCM_16" and file.format != "FLAC"  # numpy makes the same floats in half the time
    try:
        frames = file.read(file.frames, dtype="int16" if exact else "float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise BadInput(f"{uri}: the audio can't be decoded to its end: {error.error_string}", "truncated") from error
    slack = to_samples(LOSSY_SLACK, file.samplerate) if file.format in ("OGG", "MP3") else 0
    if len(frames) < file.frames - slack:
        text = f"{uri}: {len(frames)} of {file.frames} frames can be decoded: cut short or damaged. Fetch it again."
        raise BadInput(text, "truncated")
    return np.multiply(frames.T, np.float32(2**-15), order="C") if exact else np.ascontiguousarray(frames.T)


def _check_content(uri: str, audio: Audio, limits: DecodeLimits) -> None:
    if _power(audio.samples) > 2 * 10 ** (limits.silence_dbfs / 10):  # finite and well above silence, told in one pass
        return
    bad = int(audio.samples.size - np.count_nonzero(np.isfinite(audio.samples)))
    if bad:
        raise BadInput(f"{uri}: {bad} samples are NaN or infinite. Export the file again.", "not_finite")
    level = rms_dbfs(audio)
    if level < limits.silence_dbfs:
        raise BadInput(f"{uri}: {level:.1f} dBFS RMS, limit {limits.silence_dbfs} dBFS. Leave it out.", "silent")


def _power(samples: Samples) -> float:
    """The mean square to a few digits; NaN, or infinite, where a sample is."""
    flat = samples.reshape(-1)
    blocks = (flat[begin : begin + BLOCK_FRAMES] for begin in range(0, flat.size, BLOCK_FRAMES))
    total = sum(float(np.dot(block, block)) for block in blocks)
    return total / flat.size if math.isfinite(total) else math.nan


def resample(audio: Audio, sample_rate: int) -> Audio:
    """Change the rate (soxr, high quality); the length is the nearest to the same duration, halves up."""
    if audio.sample_rate == sample_rate:
        return audio
    length = (2 * audio.length * sample_rate + audio.sample_rate) // (2 * audio.sample_rate)
    samples = np.zeros((audio.channels, length), np.float32)
    for row, channel in zip(samples, audio.samples, strict=True):  # one by one: the same bits in half the time
        heard = soxr.resample(channel, audio.sample_rate, sample_rate, quality="HQ")[:length]
        row[: len(heard)] = heard
    return Audio(samples, sample_rate)


def as_stereo(audio: Audio) -> Audio:
    """Two channels: mono twice, stereo as it is. `ValueError` for more."""
    if audio.channels > 2:
        raise ValueError(f"audio has {audio.channels} channels, expected 1 or 2: take .mono() first")
    return audio if audio.channels == 2 else Audio(np.repeat(audio.samples, 2, axis=0), audio.sample_rate)


def rms_dbfs(audio: Audio) -> float:
    """Root mean square over all channels, dBFS; -120 for silence or no samples."""
    if audio.length == 0:
        return FLOOR_DBFS
    power = float(np.mean(np.square(audio.samples, dtype=np.float64)))
    return max(FLOOR_DBFS, 10 * math.log10(power)) if power > 0 else FLOOR_DBFS


def peak_dbfs(audio: Audio) -> float:
    """Largest absolute sample, dBFS; -120 for silence or no samples."""
    peak = float(np.max(np.abs(audio.samples), initial=0.0))
    return max(FLOOR_DBFS, 20 * math.log10(peak)) if peak > 0 else FLOOR_DBFS


def loudness_gain_db(audio: Audio, rms: float = -16.0, peak: float = -1.0) -> float:
    """Gain, dB, that brings the RMS to `rms` dBFS, or less where the peak would pass `peak` dBFS; 0 for silence.

    Targets: paper, section 5.2.
    """
    if rms_dbfs(audio) <= FLOOR_DBFS:
        return 0.0
    return min(rms - rms_dbfs(audio), peak - peak_dbfs(audio))


def apply_gain(audio: Audio, db: float) -> Audio:
    return Audio(audio.samples * np.float32(10 ** (db / 20)), audio.sample_rate)


def encode_bytes(audio: Audio, format: Literal["FLAC", "WAV", "OGG"]) -> bytes:
    """Same audio, same bytes. FLAC and WAV hold 16 bits, Ogg is Vorbis; samples beyond full scale are clipped."""
    buffer = io.BytesIO()
    frames = np.ascontiguousarray(audio.samples.T)
    options = {"format": format, "subtype": SUBTYPES[format]}
    with soundfile.SoundFile(buffer, "w", audio.sample_rate, audio.channels, **options) as file:
        for start in range(0, len(frames), BLOCK_FRAMES):  # libsndfile's Vorbis writer overflows on one long call
            file.write(frames[start : start + BLOCK_FRAMES])
    return with_serial(buffer.getvalue()) if format == "OGG" else buffer.getvalue()


def write(path: Path, audio: Audio) -> None:
    """Write ``.flac``, ``.wav`` or ``.ogg``, chosen by the suffix; a reader sees the old file or the whole new one."""
    if path.suffix.lower() not in EXTENSIONS:
        raise ValueError(f"can't write {path.suffix!r} files, use one of {', '.join(EXTENSIONS)}")
    content = encode_bytes(audio, EXTENSIONS[path.suffix.lower()])
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
