"""Separation with Demucs 4.1; its weights are a pulled asset, or lie in a folder of the user's.

Its API loads the networks; songs are cut and joined as the API does it, with segments of several songs in a batch
(`demucs_segments`).

Conventions: the vocal is Demucs' ``vocals`` source; no random shifts, so that the answer is repeatable.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from demucs.api import Separator as DemucsApi
from demucs.apply import BagOfModels
from demucs.hf import load_safetensors_model
from demucs.repo import ModelLoadingError
from safetensors import SafetensorError, safe_open

from pipeline.assets.known import ASSETS
from pipeline.assets.store import Held, held
from pipeline.audio import as_stereo, resample
from pipeline.errors import BackendUnavailable
from pipeline.published import reason
from pipeline.separation import demucs_segments
from pipeline.separation.stage import SeparationConfig, Stems, at_once, stems_of
from pipeline.separation.threads import one_thread
from pipeline.types import Audio

CLASSES = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs")
OWN = "not stated (weights of the user's own)"


def build(config: SeparationConfig) -> "DemucsSeparator":
    return DemucsSeparator(config)


class DemucsSeparator:
    name, backend = "separation", "demucs"

    def __init__(self, config: SeparationConfig) -> None:
        self.config = config
        self._api, self.licence = _load(config)
        if "vocals" not in self._api.model.sources:
            raise BackendUnavailable(
                f"Demucs model {config.demucs_model!r} has no vocals, only {self._api.model.sources}"
            )
        self.weights_sha256 = _tensors_sha256(self._api.model)
        self._members = demucs_segments.members(self._api.model.to(config.device).eval())
        longest = max(member.segment for member in self._members) / self._api.samplerate
        self.at_once = at_once(config, longest)  # segments

    def __call__(self, mixture: Audio) -> Stems:
        return self.batch([mixture])[0]

    def batch(self, mixtures: Sequence[Audio]) -> list[Stems]:
        """The same of several songs, whose segments fill the batches together."""
        c, rate = self.config, int(self._api.samplerate)
        heard = [torch.from_numpy(resample(as_stereo(mixture), rate).samples) for mixture in mixtures]
        with one_thread(), torch.inference_mode():
            vocals = demucs_segments.vocals(self._members, heard, c.demucs_overlap, self.at_once, c.device)
        return [
            stems_of(mixture, Audio(vocal.contiguous().numpy(), rate))
            for mixture, vocal in zip(mixtures, vocals, strict=True)
        ]


def _load(config: SeparationConfig) -> tuple[DemucsApi, str]:
    """Its API with the weights loaded, and their licence."""
    options: dict[str, Any] = {"device": config.device, "shifts": 0, "overlap": config.demucs_overlap}
    if not config.demucs_repo:
        name = f"demucs-{config.demucs_model}"
        if name not in ASSETS:
            known = ", ".join(one.removeprefix("demucs-") for one in ASSETS if one.startswith("demucs-"))
            raise BackendUnavailable(
                f"Demucs model {config.demucs_model!r} is no asset; take one of {known}, or set demucs_repo"
            )
        weights = held(name)
        return _Pulled(weights, options), weights.licence
    repo = Path(config.demucs_repo)
    if not repo.is_dir():
        raise BackendUnavailable(
            f"demucs_repo {config.demucs_repo!r} is not a folder: give the one with Demucs' weights"
        )
    try:
        return DemucsApi(config.demucs_model, repo, **options), OWN
    except (ModelLoadingError, OSError) as error:
        text = f"Demucs weights {config.demucs_model!r} can't be loaded from {repo}: {error}"
        raise BackendUnavailable(f"{text}; put them there, or leave demucs_repo empty") from error


class _Pulled(DemucsApi):
    """Demucs' API on a bag of models that lies in a folder as it was published: the hub is not asked."""

    def __init__(self, weights: Held, options: Mapping[str, Any]) -> None:
        self._weights = weights
        super().__init__(weights.asset.name, None, **options)

    def _load_model(self) -> None:
        """In place of the API's own, which asks the hub. Sets the same three attributes."""
        folder = self._weights.folder
        try:
            bag = yaml.safe_load(next(folder.glob("*.yaml")).read_text(encoding="utf-8"))
            models = [_model(folder / f"{signature}.safetensors") for signature in bag["models"]]
            self._model = BagOfModels(models, bag.get("weights"), bag.get("segment"))
        except (StopIteration, OSError, KeyError, TypeError, RuntimeError, yaml.YAMLError, SafetensorError) as error:
            raise BackendUnavailable(
                f"{folder} holds no Demucs that fits ({reason(error, 300)}); backline assets verify "
                f"{self._weights.asset.name}"
            ) from error
        self._audio_channels, self._samplerate = self._model.audio_channels, self._model.samplerate


def _model(path: Path) -> Any:
    """One network; the file names the class that it is of, so it may name no other than Demucs' own."""
    with safe_open(str(path), framework="pt") as file:
        told = file.metadata() or {}
    if told.get("klass") not in CLASSES or "structure" in told:
        raise BackendUnavailable(f"{path} names the class {told.get('klass')!r}, not one of {', '.join(CLASSES)}")
    return load_safetensors_model(path)


def _tensors_sha256(model: torch.nn.Module) -> str:
    """SHA-256 over names and values of all tensors: the same whether they came as ``.th`` or safetensors files."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
