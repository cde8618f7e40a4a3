"""Artefacts of one stage by track id: atomic to write, checked against their hash when read.

Conventions: audio is 24-bit FLAC, because float32 carries 24 bits (16- and 24-bit sources come back exactly) and
because a quiet stem may be lifted by tens of dB later, which would lift a 16-bit rounding floor with it. Stems may
exceed full scale: such audio is stored divided by a power of two, which a tag of the file names and reading undoes. A
file's name ends with the first hex digits of its content's hash, so no put ever changes the bytes that an earlier
record points to.
"""

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from pipeline.errors import BackendUnavailable
from pipeline.phases import phase
from pipeline.records import files
from pipeline.records.files import DamageError, Place
from pipeline.types import Audio

_FULL_SCALE = 2**23  # steps of 24-bit PCM between 0 and full scale
_TAG = "backline divided by "  # FLAC comment in front of the power of two


@dataclass(frozen=True, slots=True)
class Artefact:
    """One file that a stage made for a track."""

    name: str  # "vocal"
    path: str  # relative to the store's directory
    sha256: str
    bytes: int

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: what `dataclass` writes for slots is slow, and every row that goes to a worker has some."""
        return Artefact, (self.name, self.path, self.sha256, self.bytes)


class Store:
    """The files of one stage directory: ``<directory>/{audio,arrays}/ab/ab12…-<name>-<hash 8>.<suffix>``."""

    def __init__(self, directory: Place) -> None:
        self.directory = directory

    def put_audio(self, track_id: str, name: str, audio: Audio) -> Artefact:
        """Keep float audio to 24 bits of its peak; `ValueError` if it holds NaN or infinity. Same audio, same bytes."""
        with phase("write"):
            return self._put("audio", track_id, name, "flac", _to_flac(audio))

    def get_audio(self, artefact: Artefact) -> Audio:
        with phase("read"):
            return _from_flac(self.get_bytes(artefact))

    def put_arrays(self, track_id: str, name: str, arrays: Mapping[str, NDArray[Any]]) -> Artefact:
        """Keep named arrays as safetensors; same arrays, same bytes."""
        with phase("write"):
            contiguous = {key: np.array(arrays[key], order="C") for key in sorted(arrays)}  # safetensors: raw memory
            return self._put("arrays", track_id, name, "safetensors", save_arrays(contiguous))

    def get_arrays(self, artefact: Artefact) -> dict[str, NDArray[Any]]:
        with phase("read"):
            return dict(load_arrays(self.get_bytes(artefact)))

    def get_bytes(self, artefact: Artefact) -> bytes:
        """The recorded bytes, or `DamageError`."""
        path = self.directory / artefact.path
        remedy = f"run its stage again for track {path.name[:32]} with force"
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise DamageError(f"{path} is missing; {remedy}") from error
        found = hashlib.sha256(data).hexdigest()
        if found != artefact.sha256:
            raise DamageError(f"{path}: sha256 {found}, recorded {artefact.sha256}; {remedy}")
        return data

    def path(self, artefact: Artefact) -> Path:
        """Where the artefact lies, for players and reports that need a file; to measure audio, `get_audio` it.

        `BackendUnavailable` in an object store: there is no file.
        """
        path = self.directory / artefact.path
        if isinstance(path, Path):
            return path
        raise BackendUnavailable(f"{path} lies in an object store, a file is needed; copy the root to a disk")

    def remove(self, artefacts: Iterable[Artefact]) -> None:
        """Remove artefacts that nothing needs any more; commit a row without them next."""
        files.remove(self.directory / artefact.path for artefact in artefacts)

    def has(self, artefact: Artefact) -> bool:
        """Whether its file is there; not whether its bytes are right."""
        return (self.directory / artefact.path).exists()

    def forget(self, track_id: str) -> list[Place]:
        """Remove all artefacts of a track, recorded or not; the paths removed."""
        folders = [self.directory / kind / track_id[:2] for kind in ("audio", "arrays")]
        gone = [folder / entry.name for folder in folders for entry in files.entries(folder, f"{track_id}-")]
        files.remove(gone)
        return gone

    def _put(self, kind: str, track_id: str, name: str, suffix: str, data: bytes) -> Artefact:
        for value, rule in ((track_id, r"[0-9a-f]{8,64}"), (name, r"[a-z0-9_+-]{1,64}")):
            if not re.fullmatch(rule, value):
                raise ValueError(f"{value!r} can't be part of a file name: it must match {rule}")
        sha256 = hashlib.sha256(data).hexdigest()
        relative = f"{kind}/{track_id[:2]}/{track_id}-{name}-{sha256[:8]}.{suffix}"
        artefact = Artefact(name, relative, sha256, len(data))
        files.replace(self.directory / relative, data)  # there already: mended if damaged, and its lease begins anew
        return artefact


def _to_flac(audio: Audio) -> bytes:
    peak = float(np.max(np.abs(audio.samples), initial=0.0))
    if not np.isfinite(peak):
        raise ValueError(f"audio holds NaN or infinity (peak {peak}); only finite samples can be stored")
    exponent = max(0, int(np.ceil(np.log2(peak)))) if peak > 1 else 0
    steps = np.rint(audio.samples.T.astype(np.float64) * (_FULL_SCALE / 2**exponent))
    pcm = np.clip(steps, -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int32) << 8
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", audio.sample_rate, audio.channels, "PCM_24", format="FLAC") as file:
        file.comment = f"{_TAG}{2**exponent}"
        file.write(pcm)
    return buffer.getvalue()


def _from_flac(data: bytes) -> Audio:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        divisor = int(file.comment.removeprefix(_TAG))
        pcm = file.read(dtype="int32", always_2d=True)
        sample_rate = int(file.samplerate)
    samples = (pcm.T >> 8).astype(np.float32) * np.float32(divisor / _FULL_SCALE)
    return Audio(np.ascontiguousarray(samples), sample_rate)
