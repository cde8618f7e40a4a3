"""What a build asks of an engine, and how it gets one.

An engine works on songs: it starts workers, keeps their models loaded, and gives a row for every song whatever becomes
of its worker. It decides nothing about a song, so every engine gives the same rows, apart from the seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import TracebackType
from typing import Literal, Protocol, Self, runtime_checkable

from flows.engine.attempt import Item
from flows.recipe import BuildConfig
from flows.stages.context import Context
from pipeline.records.ledger import Row

OnRow = Callable[[Row], None]
EngineName = Literal["local", "ray"]


@runtime_checkable  # for Prefect, which draws up a schema of what a flow takes
class Engine(Protocol):
    """Runs stages over tracks; use as a context manager. `run` may be called from several threads at once."""

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        """One row per item, in their order, from the worker ``module:Class``; `on_row` is called as each comes in.

        `on_row` is called in the caller's thread. `BackendUnavailable` from a worker stops the run: waiting songs are
        not begun, `on_row` gets the running ones.
        """

    def close(self) -> None:
        """Stop the workers; running songs are not waited for."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


CONCURRENT_BATCHES: Mapping[EngineName, int] = {
    "local": 1,  # a batch has songs enough for all workers of a machine
    "ray": 8,  # stages times batches under way at once, so that GPUs work on one batch while CPUs prepare others; ours
}
ENGINES = {  # name -> "module:factory"; imported only when chosen
    "local": "flows.engine.local:open_local",
    "ray": "flows.engine.ray:open_ray",
}


def concurrent_batches(name: EngineName) -> int:
    """How many stage-and-batch steps a build should have under way at once."""
    return CONCURRENT_BATCHES[name]


def open_engine(name: EngineName, config: BuildConfig) -> Engine:
    """The engine of that name. `BackendUnavailable` names what is missing."""
    module, factory = ENGINES[name].split(":")
    engine: Engine = getattr(import_module(module), factory)(config)
    return engine
