"""Train the structure networks on rendered songs (`backline structure train`).

Conventions: seeded; every phase leaves its result in ``<out>.parts/`` and goes on there after a stop, with the same
weights at the end; the parts of another run (other settings or songs) are ignored. One thread.
"""

import hashlib
import json
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.config import Config
from pipeline.detection.stage import DetectionConfig
from pipeline.detection.stage import build as build_detector
from pipeline.structure import tonality
from pipeline.structure.corpus import Progress, Song, read, targets
from pipeline.structure.examples import DETECTED, UNHEARD, beat_example, form_example
from pipeline.structure.fitting import Fit
from pipeline.structure.grid import COLUMNS, Grid, lay
from pipeline.structure.networks import BeatNetwork, FormNetwork
from pipeline.structure.sections import transition_table

NO_BEATS = np.zeros(0), np.zeros(0, dtype=np.int64)


class StructureTrainingConfig(Config):
    """All lengths are counts, so that the same songs and settings give the same weights."""

    seed: int = 0
    beat_steps: int = 350
    beat_batch: int = 8  # crops of 30 s
    beat_weights: tuple[float, float] = (2.0, 4.0)  # of frames with a beat and with a downbeat, which are rare
    form_steps: int = 600
    form_batch: int = 4  # songs
    boundary_weight: float = 3.0  # of beats that begin a section; `sections.BOUNDARY_BIAS` takes it back
    boundary_share: float = 2.0  # of the boundary loss beside the labels'
    key_steps: int = 600
    key_noise: float = 0.15  # standard deviations
    key_decay: float = 0.3
    learning_rate: float = 2.5e-3  # AdamW, one cycle
    weight_decay: float = 5e-3
    smoothing: float = 1.0  # songs' worth of every transition between labels
    licence: str = "Apache-2.0"  # of the weights: songs of our own alone


@dataclass(frozen=True, slots=True)
class TrainingReport:
    weights: Path
    songs: int
    beat_loss: tuple[float, ...]  # mean of each tenth of the steps
    form_loss: tuple[float, ...]


def train(
    folders: Sequence[Path], out: Path, config: StructureTrainingConfig, progress: Progress | None = None
) -> TrainingReport:
    """Make a weights file for `structure.weights` from folders of rendered songs with seeds for training."""
    torch.set_num_threads(1)
    report = progress or (lambda phase, done: None)
    parts = _Parts(out, config, folders)
    songs = read(folders, parts.folder / "songs", build_detector(DetectionConfig()), report)
    beat, beat_loss = fit_beat(songs, parts.path("beat"), config, report)
    form, form_loss = fit_form(songs, [lay_all(song) for song in songs], parts.path("form"), config, report)
    weights, bias = fit_key(songs, config)
    forms = [[label for _, _, label in song.sections] for song in songs]
    tensors = {
        **{f"beat.{name}": value for name, value in beat.state_dict().items()},
        **{f"form.{name}": value for name, value in form.state_dict().items()},
        "key.weights": weights,
        "key.bias": bias,
        "transitions": torch.from_numpy(transition_table(forms, config.smoothing)),
    }
    halves = {name: value.detach().half().contiguous() for name, value in tensors.items()}
    save_file(halves, out, {"licence": config.licence, "run": parts.fingerprint, "songs": str(len(songs))})
    parts.remove()
    return TrainingReport(out, len(songs), _tenths(beat_loss), _tenths(form_loss))


class _Parts:
    """The folder of unfinished work of one run; heard songs are shared between runs with the same `out`."""

    def __init__(self, out: Path, config: StructureTrainingConfig, folders: Sequence[Path]) -> None:
        names = [f"{folder}:{(folder / 'truth.json').stat().st_size}" for folder in folders]
        text = json.dumps([config.model_dump(mode="json"), names])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = out.with_name(out.name + ".parts")
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, phase: str) -> Path:
        return self.folder / f"{phase}-{self.fingerprint}.pt"

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def fit_beat(
    songs: Sequence[Song], path: Path, config: StructureTrainingConfig, report: Progress
) -> tuple[BeatNetwork, list[float]]:
    network = BeatNetwork()
    fit = Fit(network, config.beat_steps, config.learning_rate, config.weight_decay, config.seed)
    return network, fit.run(path, lambda rng: _beat_loss(network, songs, config, rng), report)


def fit_form(
    songs: Sequence[Song], laid: "Sequence[Laid]", path: Path, config: StructureTrainingConfig, report: Progress
) -> tuple[FormNetwork, list[float]]:
    network = FormNetwork(COLUMNS)
    fit = Fit(network, config.form_steps, config.learning_rate, config.weight_decay, config.seed)
    return network, fit.run(path, lambda rng: _form_loss(network, songs, laid, config, rng), report)


def _beat_loss(
    network: BeatNetwork, songs: Sequence[Song], config: StructureTrainingConfig, rng: np.random.Generator
) -> Tensor:
    picks = rng.integers(0, len(songs), config.beat_batch)
    mel, target = (np.stack(part) for part in zip(*(beat_example(songs[i], rng) for i in picks), strict=True))
    weight = torch.tensor(config.beat_weights)[None, :, None]
    return F.binary_cross_entropy_with_logits(
        network(torch.from_numpy(mel)), torch.from_numpy(target), pos_weight=weight
    )


@dataclass(frozen=True, slots=True)
class Laid:
    """One song's grids by what is known of the voice: nothing, what was detected, what was sung; and without pulse."""

    unheard: Grid
    detected: Grid
    sung: Grid
    pulseless: Grid


def lay_all(song: Song) -> Laid:
    """Grids on the true beats: the tracker finds nearly all of them, and form doesn't wait for it."""
    pulse = song.beats, np.flatnonzero(np.isin(song.beats, song.downbeats))
    heard = song.spectra
    return Laid(
        lay(heard, *pulse, None),
        lay(heard, *pulse, song.detected),
        lay(heard, *pulse, song.sung),
        lay(heard, *NO_BEATS, song.detected),
    )


def _form_loss(
    network: FormNetwork,
    songs: Sequence[Song],
    laid: Sequence[Laid],
    config: StructureTrainingConfig,
    rng: np.random.Generator,
) -> Tensor:
    losses = []
    for i in rng.integers(0, len(songs), config.form_batch):
        known, pulse = rng.random(), rng.random()
        voice = laid[i].unheard if known < UNHEARD else laid[i].detected if known < UNHEARD + DETECTED else laid[i].sung
        grid = laid[i].pulseless if pulse < 0.05 else voice
        columns, likeness, labels, boundary = form_example(grid, targets(songs[i], grid), rng)
        begins, named = network(torch.from_numpy(columns.T.copy())[None], torch.from_numpy(likeness)[None])
        target = torch.from_numpy(boundary)[None].float()
        weight = torch.tensor(config.boundary_weight)
        losses.append(
            F.cross_entropy(named, torch.from_numpy(labels)[None])
            + config.boundary_share * F.binary_cross_entropy_with_logits(begins, target, pos_weight=weight)
        )
    return torch.stack(losses).mean()


def fit_key(songs: Sequence[Song], config: StructureTrainingConfig) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression on `tonality.usage`, turned to all twelve tonics, with noise."""
    tables = np.stack([tonality.usage(song.spectra.pitch) for song in songs])
    scale = tables.std(axis=(0, 2), keepdims=True) + 1e-6
    truth = torch.tensor([2 * song.tonic + song.mode for song in songs])
    layer = nn.Linear(tonality.PARTS * 12, 2)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.AdamW(layer.parameters(), 1e-2, weight_decay=config.key_decay)
    for step in range(config.key_steps):
        noise = np.random.default_rng([config.seed, zlib.crc32(b"key"), step]).normal(0, config.key_noise, tables.shape)
        turned = np.stack([tonality.turned(table) for table in tables / scale + noise])
        loss = F.cross_entropy(layer(torch.from_numpy(turned).float()).flatten(1), truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    spread = torch.from_numpy(np.repeat(scale[0, :, 0], 12)).float()
    return layer.weight.detach() / spread, layer.bias.detach()


def _tenths(losses: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(np.mean(part)) for part in np.array_split(losses, 10) if part.size)
