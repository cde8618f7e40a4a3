"""What became of kills: checked one by one, and counted for the table at the end of the tests."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from plans import FlowPlan, NodePlan, PoolPlan, StepPlan, StorePlan

HERE = Path(__file__).parent
LANES = 2  # processes that share many kills: the cores that a test machine has at least; ours
MANY = 20  # kills that are worth a second process; ours
DRIVER_SECONDS = 1200  # s, for the longest list of kills on a busy machine; ours


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill and the rerun after it."""

    what: str  # of what, at what moment
    step: str
    work: int  # songs times stages that workers began, before the kill and after it
    undisturbed: int  # the same of a build that nothing disturbs
    differ: Mapping[str, Any]  # what came out otherwise; empty is good

    @property
    def redone(self) -> int:
        return self.work - self.undisturbed


TOLD: list[Kill] = []


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder in memory where there is one: a kill loses no byte that was written, so fsync has nothing to do."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="backline-crash-", dir=memory if memory.is_dir() else None) as base:
        yield Path(base)


def record(kill: Kill) -> Kill:
    """Count a kill for the table."""
    TOLD.append(kill)
    return kill


def table() -> Iterator[str]:
    """One line for each kind: kills, and the share of work that was done again."""
    yield f"{'killed':44s} {'kills':>6s} {'differ':>7s} {'songs x stages':>15s} {'redone a kill':>14s} {'share':>7s}"
    for what in dict.fromkeys(kill.what for kill in TOLD):
        mine = [kill for kill in TOLD if kill.what == what]
        redone, work = sum(kill.redone for kill in mine), sum(kill.undisturbed for kill in mine)
        yield (
            f"{what:44s} {len(mine):6d} {sum(bool(kill.differ) for kill in mine):7d} {mine[0].undisturbed:15d} "
            f"{redone / len(mine):14.2f} {redone / max(1, work):7.1%}"
        )


def environment(**more: str) -> dict[str, str]:
    """Of a process that must find our modules."""
    ours = [str(HERE), str(HERE.parent / "pipeline"), str(HERE.parents[1])]
    path = os.pathsep.join([*ours, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **more, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def drive(plan: StepPlan) -> tuple[dict[str, Any], list[Kill]]:
    """What the drivers tell of the undisturbed run, and their kills."""
    lanes = LANES if not 0 < plan.kills < MANY else 1
    plans = [replace(plan, folder=f"{plan.folder}/{lane}", lane=lane, lanes=lanes) for lane in range(lanes)]
    for one in plans:
        Path(one.folder).mkdir()
    with ThreadPoolExecutor(lanes) as pool:
        told = list(pool.map(lambda one: _told("driver.py", asdict(one)), plans))
    what = f"{'power cut' if plan.power_cut else 'kill'} in a file-system step: {plan.scenario}"
    return told[0][0], [_recorded(kill | {"what": what}) for _, killed in told for kill in killed]


def drive_pool(plan: PoolPlan) -> list[Kill]:
    """The kills of processes of the local engine."""
    return _all_told("pool.py", asdict(plan))


def drive_flow(plan: FlowPlan, env: Mapping[str, str]) -> list[Kill]:
    """The kills of processes that run the flow."""
    return _all_told("flow.py", asdict(plan), env)


def drive_nodes(plan: NodePlan) -> list[Kill]:
    """The kills of machines of a Ray cluster."""
    return _all_told("nodes.py", asdict(plan))


def drive_store(plan: StorePlan) -> tuple[list[str], list[Kill]]:
    """The requests of an undisturbed writer to a store, and the kills."""
    whole, killed = _told("store.py", asdict(plan))
    assert whole["outcome"]["wrong"] == []
    return whole["told"], [_recorded(kill) for kill in killed]


def _all_told(program: str, plan: Mapping[str, Any], env: Mapping[str, str] = MappingProxyType({})) -> list[Kill]:
    whole, killed = _told(program, plan, env)
    assert whole["outcome"]["wrong"] == []
    return [_recorded(kill) for kill in killed]


def _told(
    program: str, plan: Mapping[str, Any], env: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The undisturbed run and the kills; every one must have killed."""
    command = [sys.executable, str(HERE / program), json.dumps(plan)]
    done = subprocess.run(command, env=environment(**env), capture_output=True, text=True, timeout=DRIVER_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    whole, *killed = (json.loads(line) for line in done.stdout.splitlines())
    assert all(kill["killed"] for kill in killed), [kill for kill in killed if not kill["killed"]]
    return whole, killed


def _recorded(told: Mapping[str, Any]) -> Kill:
    return record(Kill(*(told[name] for name in ("what", "step", "work", "undisturbed", "differ"))))
