"""musicnn (Pons and Serra 2019) in torch: 50 tags and a 200-d embedding for every 3 s of music.

Conventions: one row per window of 187 mel frames (2.992 s at 16 kHz), windows laid end to end from the start; a
remainder shorter than a window is dropped, audio shorter than one window is repeated to fill it. The weights are read
out of the `musicnn` package by path; that package itself (TensorFlow 1) is never imported.
"""

import ast
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.audio import resample
from pipeline.encoders.tf_checkpoint import load, weights_sha256
from pipeline.errors import BackendUnavailable
from pipeline.jit import librosa
from pipeline.types import Audio

ModelName = Literal["MTT_musicnn", "MSD_musicnn"]

SAMPLE_RATE = 16_000  # Hz; this and the next four: musicnn's configuration.py and extractor.py
N_FFT = 512  # samples
HOP = 256  # samples
MELS = 96
WINDOW_FRAMES = 187  # mel frames of one window
WINDOW_SECONDS = WINDOW_FRAMES * HOP / SAMPLE_RATE
TAGS = 50
WIDTH = 200  # of the embedding
BATCH = 16  # windows in one forward pass; bounds memory at about 100 MB of activations
LICENCE = "ISC"

LAST = torch.channels_last
_BN_EPSILON = 1e-3  # TensorFlow's default
_LABELS = {"MTT_musicnn": "MTT_LABELS", "MSD_musicnn": "MSD_LABELS"}


@dataclass(frozen=True, slots=True)
class MusicnnOutput:
    """One row per window of about 3 s."""

    tags: NDArray[np.float32]  # [N, 50] probabilities
    embedding: NDArray[np.float32]  # [N, 200] penultimate layer


class MusiCNN:
    """One tagger: ``MTT_musicnn`` (MagnaTagATune: instruments, voices), ``MSD_musicnn`` (Million Song: styles, moods).

    `BackendUnavailable` if the `musicnn` package is not installed.
    """

    licence = LICENCE

    def __init__(self, name: ModelName = "MTT_musicnn") -> None:
        self.name = name
        self._folder = _package_folder() / name
        self.labels = _labels(_package_folder() / "configuration.py", _LABELS[name])
        weights = load(self._folder)
        self._convolutions = [_convolution(weights, i) for i in range(8)]
        self._norms = [_norm(weights, i) for i in range(11)]
        self._dense = [_dense(weights, i) for i in range(2)]

    @property
    def weights_sha256(self) -> str:
        """Of the checkpoint's data file."""
        return weights_sha256(self._folder)

    def __call__(self, audio: Audio) -> MusicnnOutput:
        """Tags and embeddings of audio at any rate; `N = max(1, frames // 187)` rows. Same audio, same answer."""
        windows = torch.from_numpy(_windows(_log_mel(audio)))
        with torch.inference_mode():
            parts = [self._forward(windows[i : i + BATCH]) for i in range(0, len(windows), BATCH)]
        tags, embedding = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
        return MusicnnOutput(tags, embedding)

    def _forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 187, 96]`` log-mel -> tag probabilities ``[B, 50]``, penultimate layer ``[B, 200]``."""
        front = self._front_end(mel)
        pooled = self._normalise(9, self._middle(front))
        penultimate = self._normalise(10, F.relu(F.linear(pooled, *self._dense[0])))
        return torch.sigmoid(F.linear(penultimate, *self._dense[1])), penultimate

    def _front_end(self, mel: Tensor) -> Tensor:
        """Timbral (tall) and temporal (long) filters, each pooled over frequency: ``[B, C, T]``."""
        x = self._normalise(0, mel[:, None])
        # The seven time taps as input channels, channels last: the same sums, a third faster than one channel.
        taps = F.pad(x, (0, 0, 3, 3))[:, 0].unfold(1, 7, 1).permute(0, 3, 1, 2).contiguous(memory_format=LAST)
        parts = [self._pool(i, taps) for i in (0, 1)]
        for i in (2, 3, 4):
            length = self._convolutions[i][0].shape[2]
            # TensorFlow's "same": an even kernel pads one frame more at the end than at the start.
            parts.append(self._pool(i, F.pad(x, (0, 0, (length - 1) // 2, length // 2))))
        return torch.cat(parts, 1)

    def _pool(self, i: int, x: Tensor) -> Tensor:
        """The largest normalised value over frequency, from the extremes before ReLU and scale: both are monotone."""
        kernel, bias = self._convolutions[i]
        y = F.conv2d(x, kernel.transpose(1, 2) if x.shape[1] > 1 else kernel, bias)
        rising = self._norms[i + 1][0][:, None] > 0
        return self._normalise(i + 1, F.relu(torch.where(rising, y.amax(3), y.amin(3))))

    def _middle(self, front: Tensor) -> Tensor:
        """Three residual layers over time, then max and mean over time, interleaved per channel: ``[B, 2 C]``."""
        features = [front]
        for i in (5, 6, 7):
            x = F.pad(features[-1].transpose(1, 2)[:, None], (0, 0, 3, 3))
            y = self._normalise(i + 1, F.relu(F.conv2d(x, *self._convolutions[i])))[:, :, :, 0]
            features.append(y if i == 5 else y + features[-1])
        stacked = torch.cat(features, 1)
        return torch.stack([stacked.amax(2), stacked.mean(2)], 2).flatten(1)

    def _normalise(self, i: int, x: Tensor) -> Tensor:
        scale, shift = self._norms[i]
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return x * scale.view(shape) + shift.view(shape)


def _package_folder() -> Path:
    spec = find_spec("musicnn")
    if spec is None or spec.origin is None:
        raise BackendUnavailable("musicnn's weights are not installed: pip install --no-deps musicnn==0.1.0")
    return Path(spec.origin).parent


def _labels(path: Path, name: str) -> tuple[str, ...]:
    """The list literal called `name`, parsed and never run."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return tuple(ast.literal_eval(node.value))
    raise BackendUnavailable(f"{path} has no list {name}: this is not musicnn 0.1.0")


def _key(base: str, i: int) -> str:
    return base if i == 0 else f"{base}_{i}"


def _convolution(weights: dict[str, NDArray[np.generic]], i: int) -> tuple[Tensor, Tensor]:
    key = _key("conv2d", i)
    kernel = torch.tensor(weights[f"{key}/kernel"]).permute(3, 2, 0, 1).contiguous()  # HWIO -> OIHW
    return kernel, torch.tensor(weights[f"{key}/bias"])


def _norm(weights: dict[str, NDArray[np.generic]], i: int) -> tuple[Tensor, Tensor]:
    """Inference-time batch norm as one scale and one shift."""
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = (torch.tensor(weights[f"{_key('batch_normalization', i)}/{n}"]) for n in names)
    scale = gamma / torch.sqrt(variance + _BN_EPSILON)
    return scale, beta - mean * scale


def _dense(weights: dict[str, NDArray[np.generic]], i: int) -> tuple[Tensor, Tensor]:
    key = _key("dense", i)
    return torch.tensor(weights[f"{key}/kernel"]).T.contiguous(), torch.tensor(weights[f"{key}/bias"])


def _log_mel(audio: Audio) -> NDArray[np.float32]:
    """``[frames, 96]``, ``log10(10000 x + 1)`` of the mel power."""
    mono = resample(audio.mono(), SAMPLE_RATE).samples[0]
    power = librosa.feature.melspectrogram(y=mono, sr=SAMPLE_RATE, n_fft=N_FFT, hop_length=HOP, n_mels=MELS).T
    # The taggers were trained on half-precision mel power; the logarithm in half would overflow on loud music.
    rounded = np.clip(power, 0, np.finfo(np.float16).max).astype(np.float16).astype(np.float32)
    return np.asarray(np.log10(10_000 * rounded + 1), dtype=np.float32)


def _windows(mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[N, 187, 96]``, N >= 1."""
    if len(mel) < WINDOW_FRAMES:
        # Repeated rather than zero-padded: padding would be heard as quiet, sparse music.
        mel = mel[np.arange(WINDOW_FRAMES) % len(mel)]
    count = len(mel) // WINDOW_FRAMES
    return np.ascontiguousarray(mel[: count * WINDOW_FRAMES].reshape(count, WINDOW_FRAMES, MELS), dtype=np.float32)
