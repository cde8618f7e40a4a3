"""Who gets the next worker of a cluster, and who makes room: as a game between stages, without a cluster."""

from pathlib import Path

import pytest
from obedient import items

from flows.engine.job import Job
from flows.engine.placement import Amounts, Pool, Seat, decide, room_in
from flows.engine.resources import resources_of
from flows.engine.work import Loads
from flows.recipe import Resources, load_recipe
from flows.stages.context import Context
from flows.stages.graph import NODES

CPU, GPU = Resources(), Resources(gpus=1.0)


def pool(name: str, needs: Resources, songs: int) -> Pool:
    made = Pool(Loads(name), b"", Context(Path(), load_recipe("demo")), needs)
    made.jobs.append(Job.of(items(*["fine"] * songs), attempts=1))
    return made


def settle(pools: list[Pool], capacity: Amounts) -> list[int]:
    """Decide until nothing is left to decide, all workers begin songs at once, leaving ones leave; workers by pool."""
    for _ in range(1000):
        step = decide(pools, capacity, now=0.0)
        if step is None and not any(seat.leaving for one in pools for seat in one.seats):
            return [len(one.seats) for one in pools]
        if isinstance(step, Pool):
            step.seats.append(Seat(None))
        elif step is not None and step.state == "busy":
            step.leaving = True
        for one in pools:
            one.seats = [seat for seat in one.seats if not seat.leaving and seat is not step]
            for seat in one.seats:
                if seat.state != "busy" and one.jobs[0].work.next():
                    seat.state = "busy"
        assert min(room_in(capacity, pools)) >= 0.0
    raise AssertionError("never settled")


def test_one_stage_takes_the_machine_but_no_more_workers_than_songs() -> None:
    assert settle([pool("a", CPU, songs=100)], (8.0, 0.0, 0.0)) == [8]
    assert settle([pool("a", CPU, songs=3)], (8.0, 0.0, 0.0)) == [3]


def test_stages_share_what_they_compete_for() -> None:
    assert settle([pool("a", CPU, 100), pool("b", CPU, 100), pool("c", CPU, 100)], (9.0, 0.0, 0.0)) == [3, 3, 3]


def test_a_stage_that_comes_later_gets_its_share() -> None:
    first, second = pool("a", CPU, 100), pool("b", CPU, 100)
    assert settle([first], (6.0, 0.0, 0.0)) == [6]
    assert settle([first, second], (6.0, 0.0, 0.0)) == [3, 3]


def test_gpu_stage_gets_its_gpus_beside_a_stage_that_has_all_cpus() -> None:
    busy, gpu = pool("a", CPU, 100), pool("b", GPU, 100)
    assert settle([busy], (8.0, 2.0, 0.0)) == [8]
    assert settle([busy, gpu], (8.0, 2.0, 0.0)) == [6, 2]


def test_a_stage_that_wants_much_at_once_is_not_starved_by_one_that_wants_little() -> None:
    little, much = pool("a", CPU, 1000), pool("b", Resources(cpus=4.0), 1000)
    assert settle([little], (8.0, 0.0, 0.0)) == [8]
    assert settle([little, much], (8.0, 0.0, 0.0)) == [4, 1]


def test_a_stage_without_songs_gives_all_it_has() -> None:
    done, other = pool("a", CPU, 4), pool("b", CPU, 100)
    assert settle([done], (4.0, 0.0, 0.0)) == [4]
    for seat in done.seats:
        seat.state = "free"
    assert settle([done, other], (4.0, 0.0, 0.0)) == [0, 4]


def test_fractions_share_a_gpu() -> None:
    assert settle([pool("a", Resources(cpus=0.5, gpus=0.25), 100)], (8.0, 1.0, 0.0)) == [4]


def test_workers_that_were_meant_for_a_lost_machine_are_given_up() -> None:
    lone = pool("a", CPU, 100)
    lone.seats = [Seat(None, state="busy"), Seat(None), Seat(None)]
    assert decide([lone], (1.0, 0.0, 0.0), now=0.0) is lone.seats[1]


def test_a_stage_waits_after_a_loss() -> None:
    lone = pool("a", CPU, 5)
    lone.not_before = 10.0
    assert decide([lone], (4.0, 0.0, 0.0), now=9.0) is None
    assert decide([lone], (4.0, 0.0, 0.0), now=10.0) is lone


def test_workers_hold_what_settings_say_and_the_recipe_overrides() -> None:
    recipe = load_recipe("demo", ["separation.device=cuda", "build.resources.detection={cpus: 2, memory_gb: 3}"])
    assert resources_of(NODES["separation"].worker, recipe) == Resources(gpus=0.25)
    assert resources_of(NODES["quality"].worker, recipe) == Resources()
    assert resources_of(NODES["detection"].worker, recipe) == Resources(cpus=2.0, memory_gb=3.0)
    demucs = load_recipe("demo", ["separation={backend: demucs, device: cuda}"])
    assert resources_of(NODES["separation"].worker, demucs) == Resources(gpus=1.0, songs_seconds=600.0)
    alone = load_recipe("demo", ["separation={backend: demucs, device: cpu}"])
    assert resources_of(NODES["separation"].worker, alone) == Resources()
    rehearsal = load_recipe("demo", ["separation.device=cuda", "rehearsal={}"])
    assert resources_of("flows.bench.noop:SeparationWorker", rehearsal) == Resources()


def test_resources_of_no_stage_are_refused() -> None:
    recipe = load_recipe("demo", ["build.resources.seperation={gpus: 1}"])
    with pytest.raises(ValueError, match=r"\['seperation'\]; the stages are .*detection"):
        resources_of(NODES["quality"].worker, recipe)
