"""Train the refiner on remixes of rendered voices with rendered and real bands.

Conventions: one seed; examples and state lie in ``<out>.parts/``, so that a run that was stopped goes on where it was
and ends with the same weights; the loss is the SDR that the mask would reach, in dB with its sign changed, mean over
the crops of a batch.
"""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.config import Config
from pipeline.separation.refiner import Refiner, channels_last, load_refiner
from pipeline.separation.remixes import Example, make_examples
from pipeline.separation.spleeter import PATCH, SpleeterSeparator
from pipeline.separation.stage import SeparationConfig
from pipeline.separation.threads import one_thread

logger = logging.getLogger(__name__)
SWAPPED = (1, 0, 2, 3, 5, 4, 7, 6)  # the maps with left and right exchanged
QUIET = 0.01  # part of the mixture's power added to the vocal's, so that crops without a voice count little


class RefinerTrainingConfig(Config):
    """Ours, chosen once and not swept."""

    seed: int = 0
    examples: int = 160  # of 12 s
    steps: int = 800
    batch_size: int = 4  # crops
    crop_frames: int = 256  # 6 s; a multiple of 16
    learning_rate: float = 2e-3  # AdamW, cosine to its twentieth
    checkpoint_every: int = 50  # steps
    strength: float = 1.0  # part of what was learnt that is kept; with less the mask is nearer to Spleeter's


def train_refiner(
    songs: Sequence[Path],
    music: Sequence[Path],
    speech: Sequence[Path],
    out: Path,
    config: RefinerTrainingConfig,
    progress: Callable[[str, float], None],
    start: Path | None = None,
) -> list[float]:
    """Write the weights to `out` (float16 safetensors) and give the loss of every step, dB.

    `songs` are folders of rendered songs, `music` files without voices, `speech` recordings of a word or more.
    `start` are weights to go on from instead of none. `ValueError` where no example could be made.
    """
    sources = [*songs, *music, *speech, *([start] if start else [])]
    parts = out.with_name(f"{out.name}.parts") / _fingerprint(sources, config)
    parts.mkdir(parents=True, exist_ok=True)
    with one_thread():
        examples = _examples(songs, music, speech, parts, config, progress)
        network, losses = _fit(examples, start, parts, config, progress)
    save_refiner(network, out, config.strength)
    shutil.rmtree(parts.parent)
    return losses


def save_refiner(network: Refiner, out: Path, strength: float) -> None:
    """As float16, its correction times `strength`."""
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    for name in ("leave.weight", "leave.bias"):
        state[name] = state[name] * strength
    save_file({name: value.half().contiguous() for name, value in state.items()}, out)


def crop_loss(mask: Tensor, power: Tensor, best: Tensor, rest: Tensor, vocal: Tensor) -> Tensor:
    """Minus the SDR in dB of each crop, [B], for masks [B, 2, T, F] and the rest of `Example`, batched."""
    error = (power * (mask - best).square()).sum((1, 2, 3)) + rest.sum(1)
    whole = vocal.sum(1) + QUIET * power.sum((1, 2, 3))
    return 10 * torch.log10(error / whole)


def _fit(
    examples: Sequence[Example],
    start: Path | None,
    parts: Path,
    config: RefinerTrainingConfig,
    progress: Callable[[str, float], None],
) -> tuple[Refiner, list[float]]:
    torch.manual_seed(config.seed)
    network = load_refiner(start)[0].train() if start else Refiner()
    channels_last(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.01)
    losses: list[float] = []
    saved = parts / "state.pt"
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]
    for step in range(len(losses), config.steps):
        optimizer.param_groups[0]["lr"] = config.learning_rate * _rate(step / config.steps)
        losses.append(_step(network, optimizer, examples, config, step))
        progress("training", (step + 1) / config.steps)
        if (step + 1) % config.checkpoint_every == 0:
            logger.info("step %d: SDR %.2f dB", step + 1, -np.mean(losses[-config.checkpoint_every :]))
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
            torch.save(state, saved.with_suffix(".tmp"))
            saved.with_suffix(".tmp").replace(saved)
    return network, losses


def _step(
    network: Refiner,
    optimizer: torch.optim.Optimizer,
    examples: Sequence[Example],
    config: RefinerTrainingConfig,
    step: int,
) -> float:
    rng = np.random.default_rng([config.seed, 1, step])
    chosen = [examples[i] for i in rng.integers(len(examples), size=config.batch_size)]
    crops = [_crop(example, config.crop_frames, rng) for example in chosen]
    maps, *target = (torch.stack(parts) for parts in zip(*crops, strict=True))
    loss = crop_loss(network(maps), *target).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def _crop(example: Example, frames: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
    start = int(rng.integers(PATCH - frames + 1))
    here = slice(start, start + frames)
    maps, power, best = (part[:, here].float() for part in (example.maps, example.power, example.best))
    if rng.random() < 0.5:
        maps, power, best = maps[list(SWAPPED)], power.flip(0), best.flip(0)
    return maps, power, best, example.rest[here], example.vocal[here]


def _rate(done: float) -> float:
    return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2


def _examples(
    songs: Sequence[Path],
    music: Sequence[Path],
    speech: Sequence[Path],
    parts: Path,
    config: RefinerTrainingConfig,
    progress: Callable[[str, float], None],
) -> list[Example]:
    complete = parts / "complete"
    if not complete.exists():
        separator = SpleeterSeparator(SeparationConfig(refine=False))

        def show(done: int, total: int) -> None:
            progress("remixing", done / total)

        for index, example in enumerate(
            make_examples(songs, music, speech, config.examples, config.seed, separator, show)
        ):
            tensors = {name: getattr(example, name).contiguous() for name in Example.__dataclass_fields__}
            save_file(tensors, parts / f"{index:05d}.safetensors")
        complete.touch()
    files = sorted(parts.glob("*.safetensors"))
    if not files:
        raise ValueError(f"no example of 12 s with a voice in {len(songs)} songs: give longer songs")
    return [Example(**load_file(path)) for path in files]


def _fingerprint(files: Sequence[Path], config: RefinerTrainingConfig) -> str:
    text = json.dumps([config.model_dump(mode="json"), *map(str, files)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
