"""Which stage gets the next worker of a cluster, and who makes room for it.

Every stage with waiting songs gets a worker before any gets a second one, and so on; a stage whose songs are out gives
its workers up to whoever wants their room. Pure: it knows of workers and what they hold, not of Ray.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from flows.engine.attempt import Batch
from flows.engine.job import Job
from flows.engine.work import Loads
from flows.recipe import Resources
from flows.stages.context import Context

Amounts = tuple[float, float, float]  # CPUs, GPUs, GB of memory
EPSILON = 1e-6  # of float sums


@dataclass(slots=True, eq=False)
class Seat:
    """One worker on the cluster."""

    station: Any  # the actor's handle
    asked: Any = None  # the reference to its answer; None where it has nothing to do
    state: Literal["loading", "free", "busy"] = "loading"
    job: Job | None = None
    batch: Batch = ()
    leaving: bool = False  # once its song is done
    since: float = 0.0  # s of the monotonic clock, when it was last given or done with something


@dataclass(slots=True, eq=False)
class Pool:
    """The workers of one stage, and the runs that want them."""

    loads: Loads
    message: bytes  # loads its model
    context: Context
    needs: Resources
    jobs: deque[Job] = field(default_factory=deque)
    seats: list[Seat] = field(default_factory=list)
    homeless: float = 0.0  # s of the monotonic clock, since when no machine can hold one of its workers; 0 = one can
    not_before: float = 0.0  # s of the monotonic clock: no new worker until then
    lost_starts: int = 0  # machines in a row that were lost while its workers started

    @property
    def waiting(self) -> int:
        """Songs."""
        return sum(job.work.songs for job in self.jobs)

    @property
    def wants(self) -> bool:
        """Whether it has more songs than workers that will ask for one."""
        return self.waiting > sum(seat.state != "busy" and not seat.leaving for seat in self.seats)


def amounts(needs: Resources) -> Amounts:
    return (needs.cpus, needs.gpus, needs.memory_gb)


def fits(needs: Resources, room: Amounts) -> bool:
    return all(not need or need <= have + EPSILON for need, have in zip(amounts(needs), room, strict=True))


def room_in(capacity: Amounts, pools: Sequence[Pool]) -> Amounts:
    """What no worker holds; below zero where a machine was lost."""
    room = capacity
    for pool in pools:
        room = _less(room, pool.needs, len(pool.seats))
    return room


def decide(pools: Sequence[Pool], capacity: Amounts, now: float) -> Pool | Seat | None:
    """A pool that gets one more worker, else a worker that must go to make room for one, else nothing."""
    room = room_in(capacity, pools)
    if (seat := _overbooked(pools, room)) is not None:
        return seat
    leaving = any(seat.leaving for pool in pools for seat in pool.seats)
    wanting = [pool for pool in pools if pool.wants and pool.not_before <= now]
    for pool in sorted(wanting, key=lambda pool: len(pool.seats)):
        if fits(pool.needs, room):
            return pool
        if leaving:
            room = _less(room, pool.needs)  # what is on its way is for this one
        elif (seat := _donor(pool, pools, room)) is not None:
            return seat
    return None


def _overbooked(pools: Sequence[Pool], room: Amounts) -> Seat | None:
    """A worker that can't come to be, since the machine it was meant for is gone."""
    for pool in sorted(pools, key=lambda pool: -len(pool.seats)):
        short = any(need and have < -EPSILON for need, have in zip(amounts(pool.needs), room, strict=True))
        for seat in pool.seats if short else ():
            if seat.state == "loading":
                return seat
    return None


def _less(room: Amounts, needs: Resources, times: int = 1) -> Amounts:
    cpus, gpus, memory = (have - times * need for have, need in zip(room, amounts(needs), strict=True))
    return (cpus, gpus, memory)


def _donor(pool: Pool, pools: Sequence[Pool], room: Amounts) -> Seat | None:
    """The worker that can best be spared, where enough can be spared to make room."""
    spare = {other: _spare(other, pool) for other in pools if other is not pool}
    total = [have + sum(n * amounts(other.needs)[i] for other, n in spare.items()) for i, have in enumerate(room)]
    if not fits(pool.needs, (total[0], total[1], total[2])):
        return None
    lacks = [need > have + EPSILON for need, have in zip(amounts(pool.needs), room, strict=True)]
    helpful = [
        other
        for other, n in spare.items()
        if n and any(lack and one for lack, one in zip(lacks, amounts(other.needs), strict=True))
    ]
    donor = max(helpful, key=lambda other: (not other.waiting, len(other.seats)), default=None)
    return None if donor is None else min(donor.seats, key=lambda seat: ("free", "loading", "busy").index(seat.state))


def _spare(donor: Pool, pool: Pool) -> int:
    """How many workers a pool can give to another: all that are idle, or down to one more than the other has."""
    if not donor.waiting:
        return sum(seat.state != "busy" for seat in donor.seats)
    return max(0, len(donor.seats) - len(pool.seats) - 1)
