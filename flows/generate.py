"""A voice file in, an accompaniment file out, with a trace of how it was made beside it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from tqdm import tqdm

from model.config import SamplerConfig
from model.evaluation.measures import mix
from model.generate import Generation, Generator
from pipeline.audio import DecodeLimits, decode, resample, write
from pipeline.codec.codec import SAMPLE_RATE
from pipeline.types import Seconds

WRITABLE = (".wav", ".flac", ".ogg")
VOICE_LIMITS = DecodeLimits(min_seconds=0.1)  # a user's own voice may be short; a library's songs may not


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """What the user asked for; empty text, no reference and no mix are left out."""

    checkpoint: Path
    vocal: Path
    out: Path
    text: str = ""
    reference: Path | None = None
    mix: Path | None = None
    steps: int | None = None
    schedule: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """An accompaniment on disk."""

    path: Path
    seconds: Seconds  # of audio
    took: Seconds  # of work, model loading left out


def generate_file(request: GenerateRequest) -> Written:
    """Generate an accompaniment of exactly the vocal's length and write it, the mix and the trace."""
    for path in (request.out, request.mix):
        if path is not None:
            prepare_place(path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = Generator(request.checkpoint, device=device)
    vocal = decode(str(request.vocal), VOICE_LIMITS)
    reference = decode(str(request.reference), VOICE_LIMITS) if request.reference else None
    sampler = settings(generator.run.sampler, request)
    with tqdm(total=sampler.steps, desc="denoise", unit="step", disable=None) as bar:
        made = generator(
            vocal, request.text or None, reference, sampler, request.seed, lambda done, total: bar_to(bar, done, total)
        )
    write(request.out, made.accompaniment)
    if request.mix:
        write(request.mix, mix(resample(vocal, SAMPLE_RATE), made.accompaniment))
    write_trace(request, sampler, made)
    return Written(request.out, made.accompaniment.duration, sum(made.seconds.values()))


def bar_to(bar: "tqdm[NoReturn]", done: int, total: int) -> None:
    """Move a bar to a position; several windows make more steps than one."""
    bar.total = total
    bar.update(done - bar.n)


def prepare_place(path: Path) -> None:
    """Make the folder of a file that is going to be written; `ValueError` for a kind of file that can't be."""
    if path.suffix.lower() not in WRITABLE:
        raise ValueError(f"{path}: can't write {path.suffix or 'a file without a suffix'}; use {', '.join(WRITABLE)}")
    path.parent.mkdir(parents=True, exist_ok=True)


def settings(trained: SamplerConfig, request: GenerateRequest) -> SamplerConfig:
    """The recipe's sampler with the request's changes, checked again."""
    changes: dict[str, object] = {"seed": request.seed}
    if request.steps:
        changes["steps"] = request.steps
    if request.schedule:
        changes["schedule"] = request.schedule
    return SamplerConfig.model_validate(trained.model_dump() | changes)


def write_trace(request: GenerateRequest, sampler: SamplerConfig, made: Generation) -> None:
    """``<out>.json``: seed, settings and seconds by phase."""
    trace = {
        "checkpoint": str(request.checkpoint),
        "vocal": str(request.vocal),
        "text": request.text,
        "reference": str(request.reference or ""),
        "seed": request.seed,
        "sampler": sampler.model_dump(mode="json"),
        "seconds": dict(made.seconds),
        "samples_48k": made.accompaniment.length,
        "codes": int(made.codes.size),
    }
    request.out.with_suffix(request.out.suffix + ".json").write_text(json.dumps(trace, indent=1), encoding="utf-8")
