"""What PyTorch work costs on a CPU: CPU seconds over threads, bytes held at the peak, and the speed of plain products.

Conventions: CPU time is that of this process and of its children that have ended, user and system; what waits must not
spin, so the command sets `flows.cli.bench_model.QUIET` before PyTorch is imported.
"""

import os
import resource
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch

PRODUCTS = (1024, 2048)  # sides of the square matrices whose product is timed
Work = Callable[[], object]


def cpu_seconds() -> float:
    """CPU time so far of the process tree; children count once they have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def timed(work: Work, threads: int) -> float:
    """CPU seconds over threads."""
    begun = cpu_seconds()
    work()
    return max((cpu_seconds() - begun) / threads, 1e-6)


def in_turns(
    works: Mapping[str, Work], rounds: int, threads: int, show: Callable[[int, int], None]
) -> dict[str, list[float]]:
    """Seconds of every work in every round; each round does every work once and begins with another one."""
    names, seconds = list(works), {name: list[float]() for name in works}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(timed(works[name], threads))
        show(number + 1, rounds)
    return seconds


def products() -> dict[str, Work]:
    """Plain float32 products, of 17 GFLOP each, whose best speed counts as the peak."""
    works: dict[str, Work] = {}
    for side in PRODUCTS:
        left, right = torch.randn(2, side, side).unbind()
        times = (max(PRODUCTS) // side) ** 3
        works[f"gemm-{side}"] = _multiply(left, right, times)
    return works


def _multiply(left: torch.Tensor, right: torch.Tensor, times: int) -> Work:
    return lambda: [left @ right for _ in range(times)]


def gemm_speed(seconds: Mapping[str, Sequence[float]]) -> float:
    """FLOP a second of the faster of `products`, medians over rounds."""
    return max(2.0 * max(PRODUCTS) ** 3 / median(seconds[name]) for name in products())


def peak_bytes(work: Work) -> int:
    """The most that PyTorch's CPU allocator held at once during `work`, above what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as told:
        work()
    held = peak = 0
    for event in sorted(_memory_events(told), key=lambda event: event.start_ns()):
        held += event.nbytes()  # type: ignore[attr-defined]  # missing in torch's stubs
        peak = max(peak, held)
    return peak


def _memory_events(told: torch.profiler.profile) -> list[torch._C._autograd._KinetoEvent]:
    assert told.profiler is not None
    assert told.profiler.kineto_results is not None
    return [event for event in told.profiler.kineto_results.events() if event.name() == "[memory]"]


def load() -> float:
    """Mean length of the run queue over the last minute: others' work and ours."""
    return os.getloadavg()[0]
