"""Audio <-> one stream of 25 Hz codes: the contract that every codec backend fills.

Conventions: codes are uint16 in ``[0, 16384)``; a file of ``n`` samples at 48 kHz has ``token_count(n)`` codes; `F`
counts window phases (codecs without windows have one).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipeline.assets.needs import SHIPPED as NOTHING
from pipeline.assets.needs import Needs
from pipeline.assets.store import combined, held
from pipeline.backends import load_backend
from pipeline.codec.mucodec.settings import ASSETS as MUCODEC_ASSETS
from pipeline.codec.mucodec.settings import ENCODED_AT_ONCE, WINDOW_TOKENS, MuCodecConfig
from pipeline.config import Config
from pipeline.errors import BackendUnavailable
from pipeline.types import Audio

SAMPLE_RATE = 48_000  # Hz, in and out
FRAME_RATE = 25  # codes a second
CODEBOOK_SIZE = 16_384
SAMPLES_PER_CODE = SAMPLE_RATE // FRAME_RATE

Codes = NDArray[np.uint16]


def token_count(samples_48k: int) -> int:
    """Codes of a file: ``floor(25 samples / 48000) + 1``, for every codec (MuCodec's rule)."""
    if samples_48k < 0:
        raise ValueError(f"samples must be >= 0, got {samples_48k}")
    return FRAME_RATE * samples_48k // SAMPLE_RATE + 1


class CodecConfig(Config):
    backend: Literal["embedded", "mucodec"] = "embedded"
    weights: str = ""  # of `embedded`: path of a safetensors file; empty = the one shipped in the package
    mucodec: MuCodecConfig = MuCodecConfig()
    device: Literal["cpu", "cuda"] = "cpu"  # of `mucodec`

    def encoding(self) -> "CodecConfig":
        """The same with all that changes no code at its default: what tokenization's key holds."""
        mucodec = self.mucodec.encoding() if self.backend == "mucodec" else MuCodecConfig()
        return self.model_copy(update={"mucodec": mucodec})


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """What a record must say of the codec that made its codes."""

    name: str
    weights_sha256: str
    licence: str
    window_tokens: int  # codes of one analysis window; 0 = no windows, any slice is valid
    hop_samples: int  # samples at 48 kHz between the starts of windows; 0 = no windows
    phases: int  # F
    context_frames: int  # codes on either side that one code's audio reaches into


class Codec(Protocol):
    spec: CodecSpec

    def encode(self, audio: Audio) -> Codes:
        """Codes ``[F, token_count(n)]`` of 48 kHz audio of any channel count; same audio, same codes."""

    def decode(self, codes: Codes) -> Audio:
        """Stereo 48 kHz audio of exactly ``T * 1920`` samples for codes ``[T]``; same codes, same audio."""


@runtime_checkable
class ContinuousCodec(Codec, Protocol):
    """A codec that also tells what its codes quantise: the continuous ablation and codebook embeddings need it."""

    def latents(self, audio: Audio) -> NDArray[np.float32]:
        """Latents ``[token_count(n), L]`` of 48 kHz audio before quantisation."""

    def decode_latents(self, latents: NDArray[np.float32]) -> Audio:
        """Stereo 48 kHz audio of exactly ``T * 1920`` samples for latents ``[T, L]``."""

    def centroids(self) -> NDArray[np.float32]:
        """The latent that each code stands for, ``[16384, L]``."""


def continuous(codec: Codec) -> ContinuousCodec:
    """The codec itself; `BackendUnavailable` where it has no latents."""
    if not isinstance(codec, ContinuousCodec):
        raise BackendUnavailable(f"codec {codec.spec.name!r} has no continuous latents; use codec.backend embedded")
    return codec


@runtime_checkable
class BatchCodec(Protocol):
    """One whose batches the windows of several songs, and of their variants, fill together."""

    def encode_batch(self, songs: Iterable[Audio]) -> list[Codes]:
        """The codes of each as `encode` gives them, bit for bit on the same machine. Asks for one song at a time."""


@runtime_checkable
class BatchContinuousCodec(Protocol):
    """The same of latents."""

    def latents_batch(self, songs: Iterable[Audio]) -> list[NDArray[np.float32]]:
        """The latents of each as `latents` gives them, bit for bit on the same machine."""


def encode_all(codec: Codec, songs: Iterable[Audio]) -> list[Codes]:
    """Codes of several songs, at once where the codec can; a song may be made when it is asked for."""
    if isinstance(codec, BatchCodec):
        return codec.encode_batch(songs)
    return [codec.encode(audio) for audio in songs]


def latents_of_all(codec: ContinuousCodec, songs: Iterable[Audio]) -> list[NDArray[np.float32]]:
    """Latents of several songs, as `encode_all`."""
    if isinstance(codec, BatchContinuousCodec):
        return codec.latents_batch(songs)
    return [codec.latents(audio) for audio in songs]


SHIPPED = Path(__file__).parent / "weights" / "embedded.safetensors"


def weights_sha256(config: CodecConfig) -> str:
    """Hash of the weights that `build` would load, without loading them; `BackendUnavailable` if they are missing."""
    if config.backend == "mucodec":
        return combined([held(name) for name in MUCODEC_ASSETS])[0]
    path = Path(config.weights) if config.weights else SHIPPED
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BackendUnavailable(f"codec weights {path} can't be read: {error}; set codec.weights") from error


BACKENDS = {"embedded": "pipeline.codec.embedded:build", "mucodec": "pipeline.codec.mucodec.backend:build"}


# s of songs whose stems a worker encodes at once. Ours: with all its variants a song of minutes fills its batches but
# for the last one, and two stems wait in memory, 0.8 MB a second.
SONGS_AT_ONCE = 600.0


def needs(config: CodecConfig) -> Needs:
    """What the chosen backend asks of a machine. MuCodec: 1.49 e9 parameters in float32, computed from the published
    shapes, and room for a window of the autoencoder's widest picture, 2 x 128 x 4096 x 256 values, several at once."""
    if config.backend == "embedded":
        return NOTHING
    at_once = ENCODED_AT_ONCE * WINDOW_TOKENS / FRAME_RATE
    return Needs(MUCODEC_ASSETS, gpu_memory_gb=14.0, memory_gb=14.0, batch_seconds=at_once, songs_seconds=SONGS_AT_ONCE)


def build(config: CodecConfig) -> Codec:
    """Load the codec named in the config; `BackendUnavailable` if its weights are missing."""
    codec: Codec = load_backend("codec", BACKENDS, config)
    return codec
