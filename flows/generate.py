"""Voice files in, accompaniment files out, each with a trace of how it was made beside it.

Conventions: the trace of ``band.wav`` is ``band.wav.json``; it holds the codes, so that a section can be played anew
while every other code stays as it is.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from flows.generate_request import GenerateRequest, Section, check_options, sampler_of, settings
from model import checkpoint
from model.config import SamplerConfig
from model.denoising import Progress
from model.evaluation.measures import mix
from model.generate import Generation, Generator, Request
from model.sampling import FREE
from pipeline.audio import DecodeLimits, decode, resample, write
from pipeline.codec.codec import FRAME_RATE, SAMPLE_RATE
from pipeline.errors import BadInput
from pipeline.types import Audio, Seconds

WRITABLE = (".wav", ".flac", ".ogg")
VOICE_LIMITS = DecodeLimits(min_seconds=0.1)  # a user's own voice may be short; a library's songs may not


@dataclass(frozen=True, slots=True)
class Written:
    """An accompaniment on disk."""

    path: Path
    seconds: Seconds  # of audio
    took: Seconds  # of work, model loading left out


@dataclass(frozen=True, slots=True)
class Job:
    """One file to be written."""

    vocal: Path
    out: Path
    mix: Path | None
    seed: int


def generate_files(request: GenerateRequest) -> list[Written]:
    """Generate accompaniments of exactly their vocals' lengths; write them, the mixes and the traces.

    `ValueError` for places that can't be written and for options that the model doesn't know, `BadInput` without one.
    """
    planned = jobs(request)
    for path in [path for job in planned for path in (job.out, job.mix) if path is not None]:
        prepare_place(path)
    run = checkpoint.load(request.checkpoint).run
    check_options(request, run.model.kind)
    sampler = settings(sampler_of(run, request.overrides), request)  # before the weights are read, for its errors
    generator = Generator(request.checkpoint, device="cuda" if torch.cuda.is_available() else "cpu")
    reference = decode(str(request.reference), VOICE_LIMITS) if request.reference else None
    batches = [planned[at : at + request.batch] for at in range(0, len(planned), request.batch)]
    return [written for batch in batches for written in generate_batch(generator, request, sampler, batch, reference)]


def jobs(request: GenerateRequest) -> list[Job]:
    """One for each vocal and take. `ValueError` where two vocals would be written to one place."""
    seeds = range(request.seed, request.seed + request.takes)
    if len(request.vocals) == request.takes == 1:
        return [Job(request.vocals[0], request.out, request.mix, request.seed)]
    stems = [vocal.stem for vocal in request.vocals]
    if twice := {stem for stem in stems if stems.count(stem) > 1}:
        raise ValueError(
            f"several vocals are called {', '.join(sorted(twice))}: rename them, or generate them one by one"
        )
    if given := [path for path in (request.out, request.mix) if path is not None and path.suffix]:
        raise ValueError(f"{given[0]}: {len(stems)} vocals x {request.takes} takes need a folder, not a file")
    if request.section is not None and len(stems) > 1:
        raise ValueError("a section is played anew for one vocal at a time")
    found = []
    for vocal in request.vocals:
        for seed in seeds:
            name = f"{vocal.stem}-seed{seed}.wav"
            found.append(Job(vocal, request.out / name, request.mix / name if request.mix else None, seed))
    return found


def generate_batch(
    generator: Generator,
    request: GenerateRequest,
    sampler: SamplerConfig,
    batch: Sequence[Job],
    reference: Audio | None,
) -> list[Written]:
    """Accompaniments of one forward pass a step, and what lies beside them."""
    vocals = {path: decode(str(path), VOICE_LIMITS) for path in {job.vocal: None for job in batch}}
    fixed = None if request.section is None else fixed_codes(request.section)
    wanted = [Request(vocals[job.vocal], request.text or None, reference, job.seed, fixed) for job in batch]
    with steps_bar(", ".join(job.out.name for job in batch), sampler) as tell:
        made = generator.play(wanted, sampler, tell)
    for job, one in zip(batch, made, strict=True):
        write(job.out, one.accompaniment)
        if job.mix:
            write(job.mix, mix(resample(vocals[job.vocal], SAMPLE_RATE), one.accompaniment))
        write_trace(request, job, sampler.model_copy(update={"seed": job.seed}), one, len(batch))
    return [
        Written(job.out, one.accompaniment.duration, sum(one.seconds.values()))
        for job, one in zip(batch, made, strict=True)
    ]


def fixed_codes(section: Section) -> NDArray[np.int64]:
    """The codes that stay, `FREE` in the section. `BadInput` where the trace has none or the section holds no code."""
    trace = trace_of(section.keep)
    try:
        codes = np.array(json.loads(trace.read_text(encoding="utf-8"))["codes"], np.int64)
    except FileNotFoundError as error:
        raise BadInput(
            f"{trace} is missing: a section is played anew from what `generate` wrote there", "no_trace"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(
            f"{trace} is no trace ({error}); generate {section.keep.name} again with its seed", "no_trace"
        ) from error
    first, last = round(section.start * FRAME_RATE), round(min(section.stop * FRAME_RATE, len(codes)))
    if codes.ndim != 1 or not 0 <= first < last:
        raise BadInput(
            f"from {section.start:g} s to {section.stop:g} s there is no code in {trace}, which has "
            f"{codes.size / FRAME_RATE:.2f} s of them",
            "section",
        )
    codes[first:last] = FREE
    return codes


@contextmanager
def steps_bar(what: str, sampler: SamplerConfig) -> Iterator[Progress]:
    """A bar of denoising steps; several windows make more steps than one."""
    with tqdm(total=sampler.steps, desc=what, unit="step", disable=None) as bar:
        yield lambda done, total: bar_to(bar, done, total)


def bar_to(bar: "tqdm[NoReturn]", done: int, total: int) -> None:
    """Move a bar to a position."""
    bar.total = total
    bar.update(done - bar.n)


def prepare_place(path: Path) -> None:
    """Make the folder of a file that is going to be written; `ValueError` for a kind of file that can't be."""
    if path.suffix.lower() not in WRITABLE:
        raise ValueError(f"{path}: can't write {path.suffix or 'a file without a suffix'}; use {', '.join(WRITABLE)}")
    path.parent.mkdir(parents=True, exist_ok=True)


def trace_of(path: Path) -> Path:
    return path.with_suffix(path.suffix + ".json")


def write_trace(request: GenerateRequest, job: Job, sampler: SamplerConfig, made: Generation, batch: int) -> None:
    """``<out>.json``: seed, settings, seconds by phase, how many were denoised together, and the codes."""
    section = request.section
    trace = {
        "checkpoint": str(request.checkpoint),
        "vocal": str(job.vocal),
        "text": request.text,
        "reference": str(request.reference or ""),
        "kept": "" if section is None else str(section.keep),
        "seed": job.seed,
        "sampler": sampler.model_dump(mode="json"),
        "seconds": dict(made.seconds),
        "batch": batch,
        "samples_48k": made.accompaniment.length,
        "codes": made.codes.tolist(),
    }
    trace_of(job.out).write_text(json.dumps(trace), encoding="utf-8")
