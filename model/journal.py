"""What a training run says of itself: metrics.jsonl, the tracker's scalars, a log line or a progress bar.

Conventions: `step` counts optimiser steps of the whole run; only the main process writes. Lines after the step that a
run resumes from are cut off first: a resumed run leaves the steps that an undisturbed one leaves.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from model import tally
from model.flops import Pace
from model.objective import Sums

logger = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
Scalar = float | int | str


class Journal:
    """The record of one run's training. A context manager: the progress bar lives inside it."""

    def __init__(self, folder: Path, total_steps: int, first_step: int, writes: bool = True) -> None:
        self.path, self.writes = folder / METRICS, writes
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            rewind(self.path, first_step)
        self._bar = _bar() if writes and sys.stderr.isatty() else None
        self._task = self._bar.add_task("train", total=total_steps, completed=first_step) if self._bar else None
        self._loss = ""

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, step: int, stage: str) -> None:
        """One optimiser step is done."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=step, description=f"{stage} {self._loss}")

    def write(self, values: Mapping[str, Scalar]) -> None:
        """Append one line of scalars; it must hold `step` and `stage`. Nothing on processes that don't write."""
        if not self.writes:
            return
        self._loss = f"loss {_short(values['loss'])}" if "loss" in values else self._loss
        with self.path.open("a") as file:
            file.write(json.dumps(dict(values)) + "\n")
        if not self._bar:
            logger.info(" ".join(f"{key} {_short(value)}" for key, value in values.items()))


class Meter:
    """Sums of what happened since the last reading (or restart), kept on the device until they are read."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self._sums: Tensor | None = None
        self._steps, self._rate, self._norm = 0, 0.0, 0.0
        self._since = time.perf_counter()

    def add(self, cml: Tensor, rtd: Tensor, rtd_weight: float, sums_of: Sums, tokens: Tensor) -> None:
        """One micro-batch: its share of the step's two losses, and counts of codes."""
        both, counts = cml + rtd_weight * rtd, sums_of.counts
        sums = torch.stack([x.detach().double() for x in (both, cml, rtd, sums_of.hits, sums_of.masked, tokens)])
        sums = torch.cat([sums, sums.new_zeros(tally.SIZE) if counts is None else counts])
        self._sums = sums if self._sums is None else self._sums + sums

    def step(self, rate: float, norm: float) -> None:
        self._steps, self._rate, self._norm = self._steps + 1, rate, norm

    def read(self, over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Means over all processes and the steps since the last reading; rate and gradient norm are the last step's."""
        if self._sums is None:
            return {}
        total = over_processes(self._sums)
        loss, cml, rtd, hits, masked, tokens = total[:6].tolist()
        seconds, steps = time.perf_counter() - self._since, self._steps
        self._sums, self._steps, self._since = None, 0, time.perf_counter()
        return {
            "loss": loss / steps,
            "cml": cml / steps,
            "rtd": rtd / steps,
            "lr": self._rate,
            "grad_norm": self._norm,
            "masked_accuracy": hits / max(1.0, masked),
            "tokens_per_second": tokens / seconds,
            **self.pace.told(steps, masked, seconds),
            **tally.told(total[6:]),
        }

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Time that is no training: validation, checkpoints."""
        begun = time.perf_counter()
        yield
        self._since += time.perf_counter() - begun


def rewind(path: Path, step: int) -> None:
    """Keep the lines up to `step`; a line cut short by a crash goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            logger.warning("%s: dropped a line that a crash cut short", path)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text("".join(line + "\n" for line in kept))
    draft.replace(path)


def read(folder: Path) -> list[dict[str, Scalar]]:
    """The lines of a run's metrics, oldest first; empty where there are none."""
    path = folder / METRICS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def _short(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
