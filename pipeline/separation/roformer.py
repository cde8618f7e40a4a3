"""Separation with BS-RoFormer through the package `audio-separator` and the program ffmpeg.

Conventions: 44.1 kHz; the package reads and writes files, so a song passes through a temporary folder. It scales what
is louder than its limit, the vocal apart from the mixture: the mixture goes in at half of full scale, and a vocal that
reaches the limit all the same is refused. The checkpoint is a pickle that the package unpickles; before that it must
pass torch's restricted loader, which lets nothing through that could run. Songs go one at a time: the package takes
one file after the other, whatever it is given.
"""

import logging
import shutil
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any
from weakref import finalize

import numpy as np
import soundfile
import torch
import yaml
from tqdm import tqdm

from pipeline.assets.store import combined, held
from pipeline.audio import as_stereo, resample
from pipeline.errors import BackendUnavailable, BadInput
from pipeline.published import UNREADABLE, reason
from pipeline.separation.stage import AUDIO_SEPARATOR, FFMPEG, SeparationConfig, Stems, stems_of
from pipeline.types import Audio

SAMPLE_RATE = 44_100  # Hz
ASSET = "roformer"
PEAK = 0.5  # of full scale, of the mixture that goes in; ours
LIMIT = 1.0  # of full scale, above which the package scales


def build(config: SeparationConfig) -> "RoformerSeparator":
    return RoformerSeparator(config)


class RoformerSeparator:
    """`BackendUnavailable` where the package, ffmpeg or the pulled checkpoint is missing, or would run something."""

    name, backend = "separation", "roformer"

    def __init__(self, config: SeparationConfig) -> None:
        self.config = config
        package = _package()
        require_ffmpeg()
        weights = held(ASSET)
        self.weights_sha256, self.licence = combined((weights,))
        checkpoint = weights.path(weights.asset.files[0].path)
        _require_harmless(checkpoint)
        self._output = Path(mkdtemp(prefix="backline-roformer-"))
        finalize(self, shutil.rmtree, self._output, ignore_errors=True)
        self._package = package(
            log_level=logging.CRITICAL,  # what goes wrong is raised
            model_file_dir=str(weights.folder), output_dir=str(self._output),
            output_format="WAV", normalization_threshold=LIMIT, output_single_stem="Vocals",
            use_soundfile=True,  # which writes what it read, floats; the other way rounds to 16 bits
        )  # fmt: skip
        self._package.torch_device = torch.device(config.device)
        _load(self._package, checkpoint)

    def __call__(self, mixture: Audio) -> Stems:
        heard = resample(as_stereo(mixture), SAMPLE_RATE)
        gain = PEAK / max(float(np.abs(heard.samples).max(initial=0.0)), 1e-9)
        with TemporaryDirectory(dir=self._output) as folder:
            path = Path(folder) / "mixture.wav"
            soundfile.write(path, (heard.samples * gain).T, SAMPLE_RATE, subtype="FLOAT")
            written = self._output / Path(self._package.separate(str(path))[0]).name
            vocal, rate = soundfile.read(written, dtype="float32", always_2d=True)
            written.unlink()
        if vocal.size and float(np.abs(vocal).max()) >= 0.99 * LIMIT:
            raise BadInput("the separated vocal is more than twice as loud as the song: nothing to trust", "separation")
        return stems_of(mixture, Audio(np.ascontiguousarray(vocal.T / np.float32(gain)), int(rate)))


def _package() -> Any:
    """Its class `Separator`; its progress bar for every song would fill a worker's log."""
    try:
        demixing: Any = import_module("audio_separator.separator.architectures.mdxc_separator")
        demixing.tqdm = partial(tqdm, disable=True)
        return import_module("audio_separator.separator").Separator
    except ImportError as error:
        wanted = f"separation backend 'roformer' needs the package audio-separator: {AUDIO_SEPARATOR.install}"
        raise BackendUnavailable(f"{wanted} ({error})") from error


def require_ffmpeg() -> None:
    """The package calls it before anything else, whatever the file is."""
    if shutil.which(FFMPEG.name) is None:
        raise BackendUnavailable(
            "separation backend 'roformer': audio-separator needs the program ffmpeg, and none is on the PATH; install "
            f"it ({FFMPEG.install})"
        )


def _load(package: Any, checkpoint: Path) -> None:
    """The checkpoint and its settings; where they don't fit each other, the package would end the process."""
    logging.getLogger("audio_separator.separator.roformer").setLevel(logging.CRITICAL)
    try:
        package.load_model(checkpoint.name)
    except (SystemExit, RuntimeError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        cause = error.__context__ if isinstance(error, SystemExit) else None  # it hides what went wrong
        told = reason(cause or error, 300).split("; Legacy fallback")[0]
        raise BackendUnavailable(
            f"{checkpoint} and the settings beside it are no BS-RoFormer ({told}); backline assets verify {ASSET}"
        ) from error


def _require_harmless(checkpoint: Path) -> None:
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except UNREADABLE as error:
        raise BackendUnavailable(
            f"{checkpoint} is no plain file of tensors ({reason(error)}); pull it again"
        ) from error
