"""The workers of all stages on a cluster, looked after by one thread: hired, given songs, listened to, dismissed.

Songs wait here, not on the cluster: each worker is asked for one song, or one batch of songs, at a time.
"""

import logging
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from flows.engine.attempt import Batch
from flows.engine.child import Answer, Load, Loaded
from flows.engine.cluster import Cluster, Machine
from flows.engine.job import Job
from flows.engine.local import limits_of
from flows.engine.placement import Amounts, Pool, Seat, amounts, decide, fits, room_in
from flows.engine.resources import resources_of
from flows.engine.station import Missing
from flows.engine.supervisor import Loss
from flows.engine.work import Loads, WorkerStartError
from flows.recipe import BuildConfig
from pipeline.errors import BackendUnavailable, PipelineError
from pipeline.records.entries import ATTEMPT_PREFIX

logger = logging.getLogger(__name__)
TICK_SECONDS = 0.05  # s between looks at new runs while workers are busy; ours
LOOK_SECONDS = 2.0  # s between looks at the machines of the cluster; ours
IDLE_SECONDS = 30.0  # s that a stage without songs keeps its workers where nobody wants their room; ours
BACKOFF_SECONDS = 1.0  # s that a stage waits after a worker was lost while it started; ours
ROOM_SECONDS = 120.0  # s that a stage waits for a machine that can hold its worker, before the run ends; ours
LOST_STARTS = 10  # machines in a row that are lost while a stage's workers start, before the run ends; ours


class RootNotSharedError(PipelineError):
    """A machine of the cluster doesn't see the root or the library."""


class Fleet:
    """The workers of all stages. All but `told` belongs to the thread of `serve`."""

    def __init__(self, cluster: Cluster, config: BuildConfig) -> None:
        self.told: SimpleQueue[tuple[Load, Job] | None] = SimpleQueue()
        self._cluster, self._limits = cluster, limits_of(config)
        self._pools: dict[tuple[str, ...], Pool] = {}
        self._probes: dict[Path, Path] = {}  # root -> a file there for other machines to look for
        self._machines: list[Machine] = []
        self._looked = 0.0
        self.ended: Exception | None = None

    def serve(self) -> None:
        """Look after the workers until told to end."""
        from ray.exceptions import RayError

        ending: Exception = RuntimeError("the engine was closed")
        try:
            while self._listen():
                self._look()
                self._place()
                self._hand_out()
                self._collect()
        except RayError as error:
            ending = error
        finally:
            self._end(ending)

    def _listen(self) -> bool:
        """Take in new runs; False when told to end."""
        timeout = self._patience()
        try:
            while (told := self.told.get(timeout=timeout)) is not None:
                self._admit(*told)
                timeout = 0.0
        except Empty:
            return True
        return False

    def _patience(self) -> float | None:
        """How long nothing but a new run can matter, s."""
        pools = self._pools.values()
        if any(seat.asked for pool in pools for seat in pool.seats):
            return 0.0
        if any(pool.jobs for pool in pools):
            return TICK_SECONDS
        return LOOK_SECONDS if pools else None

    def _admit(self, load: Load, job: Job) -> None:
        context = load.context
        key = (load.worker, str(context.root), context.recipe.model_dump_json(), *context.keys.values())
        try:
            needs = resources_of(load.worker, context.recipe)
        except ValueError as error:
            job.fail(error)
            job.finish()
            return
        pool = self._pools.setdefault(key, Pool(Loads(load.worker), pickle.dumps(load), load.context, needs))
        pool.jobs.append(job)
        self._look(force=True)

    def _look(self, force: bool = False) -> None:
        """See which machines live, and which stages none of them can hold."""
        now = time.monotonic()
        if not force and now - self._looked < LOOK_SECONDS:
            return
        self._machines, self._looked = self._cluster.machines(), now
        for pool in self._pools.values():
            if not pool.jobs or any(fits(pool.needs, machine.has) for machine in self._machines):
                pool.homeless = 0.0
            elif not pool.homeless:
                pool.homeless = now
                logger.warning("%s", _too_big(pool, self._machines))
            elif now - pool.homeless > ROOM_SECONDS:
                for job in pool.jobs:
                    job.fail(_too_big(pool, self._machines))

    def _capacity(self) -> Amounts:
        cpus, gpus, memory = (sum(machine.has[i] for machine in self._machines) for i in range(3))
        return (cpus, gpus, memory)

    def _place(self) -> None:
        """Give workers to the stages that want them, and take them from those that don't."""
        pools, now = list(self._pools.values()), time.monotonic()
        while (step := decide(pools, self._capacity(), now)) is not None:
            if isinstance(step, Pool):
                self._hire(step)
            elif step.state == "busy":
                step.leaving = True
            else:
                self._let_go(step)
        for pool in pools:
            for seat in [seat for seat in pool.seats if seat.state == "free"]:
                if seat.leaving:
                    self._let_go(seat)
                elif not pool.jobs and now - seat.since > IDLE_SECONDS:
                    self._dismiss(seat)

    def _let_go(self, seat: Seat) -> None:
        """Another stage's from now on, where one wants a worker that holds the same; else dismissed."""
        pools, now = self._pools.values(), time.monotonic()
        pool = next(pool for pool in pools if seat in pool.seats)
        lost = min(room_in(self._capacity(), list(pools))) < 0  # it may never come to be
        same = [heir for heir in pools if amounts(heir.needs) == amounts(pool.needs)]
        heirs = [heir for heir in same if heir.wants and heir.not_before <= now]
        if lost or not heirs:
            self._dismiss(seat)
            return
        heir = min(heirs, key=lambda heir: len(heir.seats))
        pool.seats.remove(seat)
        heir.seats.append(seat)
        seat.leaving = False
        self._load(heir, seat)

    def _hire(self, pool: Pool) -> None:
        seat = Seat(self._cluster.hire(pool.needs, self._limits))
        pool.seats.append(seat)
        self._load(pool, seat)

    def _load(self, pool: Pool, seat: Seat) -> None:
        seat.state, seat.since = "loading", time.monotonic()
        seat.asked = seat.station.load.remote(pool.message, self._to_look_for(pool))

    def _to_look_for(self, pool: Pool) -> tuple[str, ...]:
        """What every machine must see: a file that we put into the root, and the first song."""
        root = pool.context.root
        if len(self._machines) < 2 or not isinstance(root, Path):
            return ()
        if root not in self._probes:
            self._probes[root] = root.resolve() / f"{ATTEMPT_PREFIX}{uuid4().hex}-ray"
            self._probes[root].touch()
        first = next((item.track.uris[0] for job in pool.jobs for item in job.work.waiting), "")
        return (str(self._probes[root]), *([first] if first and Path(first).exists() else []))

    def _dismiss(self, seat: Seat) -> None:
        pool = next(pool for pool in self._pools.values() if seat in pool.seats)
        pool.seats.remove(seat)
        self._cluster.dismiss(seat.station)

    def _hand_out(self) -> None:
        """Give each free worker songs; forget runs that are over."""
        for key, pool in list(self._pools.items()):
            for seat in pool.seats:
                if seat.state == "free" and not seat.leaving:
                    self._give(pool, seat)
            for job in [job for job in pool.jobs if job.over]:
                pool.jobs.remove(job)
                job.finish()
            if not pool.jobs and not pool.seats:
                del self._pools[key]

    def _give(self, pool: Pool, seat: Seat) -> None:
        for job in pool.jobs:
            if batch := job.work.next(len(pool.seats)):
                seat.state, seat.since, seat.job, seat.batch = "busy", time.monotonic(), job, batch
                job.running += 1
                seat.asked = seat.station.work.remote(pickle.dumps(batch), len(batch))
                return

    def _collect(self) -> None:
        """Take the answers that are there."""
        asked = {seat.asked: (pool, seat) for pool in self._pools.values() for seat in pool.seats if seat.asked}
        for reference in self._cluster.ready(list(asked), TICK_SECONDS) if asked else ():
            self._take(*asked[reference], reference)

    def _take(self, pool: Pool, seat: Seat, reference: Any) -> None:
        from ray.exceptions import RayError

        job, batch, seat.asked, seat.job, seat.batch = seat.job, seat.batch, None, None, ()
        if job is not None:
            job.running -= 1
        try:
            answer = self._cluster.ray.get(reference)
        except RayError as error:
            self._station_lost(pool, seat, job, batch, error)
            return
        seat.state, seat.since = "free", time.monotonic()
        if job is None:
            self._loaded(pool, seat, answer)
        elif isinstance(answer, Loss):
            _lost(job, batch, answer)
            self._load(pool, seat)
        else:
            _answered(pool, job, answer)

    def _loaded(self, pool: Pool, seat: Seat, answer: bytes | Loss | Missing) -> None:
        """What a worker says before its first song."""
        error: Exception | None = None
        if isinstance(answer, Missing):
            error = _not_shared(answer)
        elif isinstance(answer, Loss):
            error = pool.loads.lost(answer)
            if error is None:
                self._load(pool, seat)
        elif isinstance(told := pickle.loads(answer), BackendUnavailable):
            error = told
        else:
            pool.loads.succeeded()
            pool.lost_starts = 0
        if error is not None:
            self._dismiss(seat)
            for job in pool.jobs:
                job.fail(error)

    def _station_lost(self, pool: Pool, seat: Seat, job: Job | None, batch: Batch, error: Exception) -> None:
        """Its machine is gone, or its process, or it never came to be."""
        story = str(error).strip().splitlines()[0]
        logger.warning("a worker of %s was lost: %s", pool.loads.worker, story)
        self._dismiss(seat)  # it may be out of reach alone, and alive
        self._looked = 0.0
        if job is not None:
            seconds = time.monotonic() - seat.since
            _lost(job, batch, Loss("node_lost", f"lost its machine ({story})", seconds))
            return
        now = time.monotonic()
        if now >= pool.not_before:  # those that are lost together count once
            pool.lost_starts, pool.not_before = pool.lost_starts + 1, now + BACKOFF_SECONDS
        if pool.lost_starts >= LOST_STARTS:
            for waiting in pool.jobs:
                waiting.fail(
                    WorkerStartError(f"{pool.loads.worker}: {LOST_STARTS} workers in a row were lost: {error}")
                )

    def _end(self, error: Exception) -> None:
        """Dismiss everyone, and leave nobody waiting."""
        self.ended = error
        for job in [job for pool in self._pools.values() for job in pool.jobs]:
            job.fail(error)
            job.finish()
        while not self.told.empty():
            if (told := self.told.get()) is not None:
                told[1].fail(error)
                told[1].finish()
        for probe in self._probes.values():
            probe.unlink(missing_ok=True)
        for seat in [seat for pool in self._pools.values() for seat in pool.seats]:
            self._cluster.dismiss(seat.station)


def _lost(job: Job, batch: Batch, loss: Loss) -> None:
    if job.error is not None:
        return
    if (row := job.work.lost(batch, loss)) is not None:
        job.keep(row)


def _answered(pool: Pool, job: Job, answer: bytes) -> None:
    told: Answer = pickle.loads(answer)
    if isinstance(told, BackendUnavailable):
        for other in pool.jobs:
            other.fail(told)
    elif not isinstance(told, Loaded):
        for row in told:
            job.keep(row)


def _too_big(pool: Pool, machines: Sequence[Machine]) -> BackendUnavailable:
    wants, have = pool.needs, [machine.has for machine in machines]
    return BackendUnavailable(
        f"a worker of {pool.loads.worker} holds {wants.cpus:g} CPUs, {wants.gpus:g} GPUs and {wants.memory_gb:g} GB; "
        f"none of the {len(machines)} machines of the Ray cluster has as much (CPUs, GPUs, GB: {have}); add one that "
        "has, or set build.resources for that stage"
    )


def _not_shared(answer: Missing) -> RootNotSharedError:
    return RootNotSharedError(
        f"machine {answer.machine} of the Ray cluster doesn't see {', '.join(answer.paths)}, which this machine does: "
        "root and library must be in an object store (s3://...), or on a disk that every machine mounts at the same "
        "path"
    )
