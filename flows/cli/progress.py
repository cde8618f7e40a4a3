"""Progress bars for long work, on standard error; none where that is no terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """For work that reports (done, total)."""
    with tqdm(desc=what, unit=unit, disable=None) as progress:

        def show(done: int, total: int) -> None:
            progress.total = total
            progress.update(done - progress.n)

        yield show


@contextmanager
def phases() -> Iterator[Callable[[str, float], None]]:
    """For work that reports (phase, share of the whole that is done, 0..1)."""
    with tqdm(total=100, unit="%", disable=None) as progress:

        def show(phase: str, share: float) -> None:
            progress.set_description(phase)
            progress.update(100 * share - progress.n)

        yield show
