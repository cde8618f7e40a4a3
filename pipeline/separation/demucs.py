"""Separation with Demucs 4.1 through its own API; its weights come from the hub or from a local folder.

Conventions: the vocal is Demucs' ``vocals`` source; no random shifts, so that the answer is repeatable.
"""

import hashlib
from pathlib import Path
from urllib.error import URLError

import torch
from demucs.api import Separator as DemucsApi
from demucs.repo import ModelLoadingError

from pipeline.audio import as_stereo, resample
from pipeline.errors import BackendUnavailable
from pipeline.separation.stage import SeparationConfig, Stems, stems_of
from pipeline.separation.threads import one_thread
from pipeline.types import Audio


def build(config: SeparationConfig) -> "DemucsSeparator":
    return DemucsSeparator(config)


class DemucsSeparator:
    name, backend, licence = "separation", "demucs", "MIT"

    def __init__(self, config: SeparationConfig) -> None:
        self.config = config
        self._api = _load(config)
        if "vocals" not in self._api.model.sources:
            raise BackendUnavailable(
                f"Demucs model {config.demucs_model!r} has no vocals, only {self._api.model.sources}"
            )
        self.weights_sha256 = _tensors_sha256(self._api.model)

    def __call__(self, mixture: Audio) -> Stems:
        rate = int(self._api.samplerate)
        heard = resample(as_stereo(mixture), rate)
        with one_thread():
            _, sources = self._api.separate_tensor(torch.from_numpy(heard.samples), rate)
        return stems_of(mixture, Audio(sources["vocals"].cpu().contiguous().numpy(), rate))


def _load(config: SeparationConfig) -> DemucsApi:
    repo = Path(config.demucs_repo) if config.demucs_repo else None
    if repo is not None and not repo.is_dir():
        raise BackendUnavailable(
            f"demucs_repo {config.demucs_repo!r} is not a folder: give the one with Demucs' weights"
        )
    try:
        return DemucsApi(
            config.demucs_model, repo, device=config.device, shifts=0, overlap=config.demucs_overlap, progress=False
        )
    except (ModelLoadingError, URLError, OSError) as error:
        place = config.demucs_repo or "the hub"
        text = f"Demucs weights {config.demucs_model!r} can't be loaded from {place}: {error}"
        raise BackendUnavailable(f"{text}; download them into a folder and set demucs_repo") from error


def _tensors_sha256(model: torch.nn.Module) -> str:
    """SHA-256 over names and values of all tensors: the same whether they came as ``.th`` or safetensors files."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
