"""What a user asks of `generate`, and the sampler that this makes of the one that came with the checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from model.config import Kind, SamplerConfig, TrainRun
from pipeline.types import Seconds

UNHEARD: Mapping[Kind, Mapping[str, str]] = {  # options that a kind of model would pass over, and what to do instead
    "mask": {},
    "autoregressive": {
        "--steps": "it draws every code once, from left to right: leave it out",
        "--schedule": "it unmasks nothing: leave it out",
    },
    "flow": {
        "--schedule": "its steps are equal: leave it out; --steps says how many they are",
        "--keep": "its latents keep no codes: leave it out, and play the whole song",
    },
}


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch that is played anew, everything else kept."""

    keep: Path  # an accompaniment that `generate` wrote, its trace beside it
    start: Seconds = 0.0
    stop: Seconds = float("inf")


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What the user asked for; empty text, no reference and no mix are left out."""

    checkpoint: Path
    vocals: tuple[Path, ...]
    out: Path  # a file; a folder where more than one is written
    text: str = ""
    reference: Path | None = None
    mix: Path | None = None  # as `out`
    steps: int | None = None
    schedule: str = ""
    seed: int = 0
    takes: int = 1  # of each vocal, with the seeds from `seed` on
    section: Section | None = None
    batch: int = 4  # accompaniments of one forward pass; memory grows with it, and with the songs' lengths
    overrides: tuple[str, ...] = ()  # of the checkpoint's sampler: sampler.key=value


def check_options(request: GenerateRequest, kind: Kind) -> None:
    """`ValueError` that names every option given which a model of this kind would pass over."""
    given = {"--steps": request.steps, "--schedule": request.schedule, "--keep": request.section}
    if wrong := [f"{name}: {remedy}" for name, remedy in UNHEARD[kind].items() if given[name]]:
        raise ValueError(f"{request.checkpoint} is a model of kind {kind}, which doesn't know {'; '.join(wrong)}")


def sampler_of(run: TrainRun, overrides: Sequence[str]) -> SamplerConfig:
    """The sampler that the model was trained with the intent to use, with changes ``sampler.key=value`` to it.

    `ValueError` for what is no setting of it, and for what a model of this kind would pass over.
    """
    tree = run.sampler.model_dump()
    for text in overrides:
        name, separator, value = text.partition("=")
        if not separator or not name.startswith("sampler."):
            raise ValueError(f"override {text!r} must look like sampler.key=value: all else is the checkpoint's")
        tree[name.removeprefix("sampler.")] = yaml.safe_load(value)
    return TrainRun.model_validate(run.model_dump() | {"sampler": tree}).sampler


def settings(trained: SamplerConfig, request: GenerateRequest) -> SamplerConfig:
    """A sampler with the request's changes, checked again; `ValueError` for a schedule that it would pass over."""
    changes: dict[str, object] = {"seed": request.seed}
    if request.steps:
        changes["steps"] = request.steps
    if request.schedule:
        changes["schedule"] = request.schedule
        if trained.entropy_bound > 0:
            raise ValueError(
                f"--schedule {request.schedule}: this sampler's entropy_bound {trained.entropy_bound:g} says how many "
                "frames settle in a step; leave one out (--set sampler.entropy_bound=0)"
            )
    return SamplerConfig.model_validate(trained.model_dump() | changes)
