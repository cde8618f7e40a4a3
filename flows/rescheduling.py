"""Training that a server schedules again: how often from where it stands, and what an earlier attempt left behind.

Conventions: ``starts.json`` in the run's folder holds the flow run that launched last, which attempt of it that was,
the checkpoint it began from and how many launches in a row began there. Only runs of deployments keep it: without one,
a person decides each time. The newest attempt owns the run: a server may take a living one for dead and start another,
and what the older one then has to say would be taken for the newer one's end.
"""

import json
import logging
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flows.trainer_log import LOG
from model import checkpoint, lock
from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)
STARTS = "starts.json"
MOST = 3  # launches in a row that save nothing new; ours
STOP_SECONDS = 240.0  # a step and a checkpoint; with KILL_SECONDS below Kubernetes' 300 s grace in infra/
KILL_SECONDS = 40.0  # torchrun gives the other processes 30 s once one is dead


class NoProgressError(PipelineError):
    """The run was started again and again and saved nothing new; the next Retry counts afresh."""


@dataclass(frozen=True, slots=True)
class Starts:
    flow_run: str
    attempt: str  # no two are the same
    newest: str  # name of the newest checkpoint at the launch; empty = none yet
    count: int  # launches that began there, this one too


def count_start(out: Path, flow_run: str, attempt: str) -> Starts:
    """One more launch by a deployment's run; `NoProgressError` where `MOST` in a row came no further."""
    last, found = last_start(out), checkpoint.latest(out)
    newest = found.name if found else ""
    count = 1 + (last.count if last is not None and last.newest == newest else 0)
    if count > MOST:
        (out / STARTS).unlink()
        raise NoProgressError(
            f"{MOST} launches in a row died before they saved anything new in {out} (newest checkpoint: "
            f"{newest or 'none'}): {out / LOG} says why; save more often (training.checkpoint_every), or press Retry "
            f"for {MOST} more"
        )
    starts = Starts(flow_run, attempt, newest, count)
    _write(out, starts)
    return starts


def last_start(out: Path) -> Starts | None:
    """What the last launch wrote down; `None` where no deployment's run launched here."""
    path = out / STARTS
    return Starts(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def superseded(out: Path, attempt: str) -> bool:
    """Whether the folder, which `attempt` launched in, is another attempt's by now."""
    last = last_start(out)
    return last is None or last.attempt != attempt


def take_over(out: Path, flow_run: str, attempt: str) -> None:
    """Make the folder this attempt's, and end the trainer that an earlier one of the same flow run has left at work.

    The trainer saves first. One that anybody else launched is left alone: whoever finds it refuses.
    """
    last = last_start(out)
    if last is None or last.flow_run != flow_run:
        return
    _write(out, replace(last, attempt=attempt))  # first, so that the earlier attempt, if it lives, keeps its peace
    if lock.holder(out) is None:
        return
    logger.info("%s: an earlier attempt of this run left its trainer at work; it is told to save and end", out)
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        trainer = lock.holder(out)
        if trainer is not None:
            tell(trainer, number)
        if freed(out, seconds):
            return


def _write(out: Path, starts: Starts) -> None:
    out.mkdir(parents=True, exist_ok=True)
    draft = out / f".{STARTS}.draft"
    draft.write_text(json.dumps(asdict(starts)), encoding="utf-8")
    draft.replace(out / STARTS)


def freed(out: Path, seconds: float) -> bool:
    """Whether no trainer is at work in the folder within that time."""
    deadline = time.monotonic() + seconds
    while lock.held(out):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def tell(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
