"""One stage over one batch: who still lacks the stage, the engine's run, the ledger's commits."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from time import monotonic
from typing import Protocol

from flows.engine.attempt import Item
from flows.engine.engine import Engine
from flows.stages.context import Context
from flows.stages.graph import NODES, gets, in_force, worker_of
from pipeline.batching import OUT_OF_MEMORY
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.files import Place
from pipeline.records.groups import steady
from pipeline.records.ledger import Ledger, Row

logger = logging.getLogger(__name__)
DONE = ("ok", "rejected", "quarantined")  # a failed song is tried again by the next build
# A batch is committed in parts, so that a kill loses little work, and in few, since each is a file that every later
# look reads: with 256 songs, every 16, and not before `build.part_seconds` have passed. Ours.
PARTS = 16
LEAST = 4  # songs a part


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """How one stage over one batch ended."""

    stage: str
    batch: int
    wanted: int  # songs the stage is for
    worked: int  # songs worked on now; the rest was committed before
    ok: int
    rejected: int
    quarantined: int
    failed: int
    seconds: float  # of work, summed over songs


class Watcher(Protocol):
    """Whoever shows the progress of a batch."""

    def start(self, total: int) -> None:
        """`total` songs are going to be worked on."""

    def add(self, row: Row) -> None:
        """One of them is done."""


@lru_cache(maxsize=4)
def catalog_of(root: Place) -> Catalog:
    """The process's one catalog of a root: each look reads only the files that came since the last."""
    return Catalog(root)


def committed(context: Context, batch: int) -> Iterator[tuple[CatalogRow, dict[str, Row]]]:
    """The tracks of a batch, each with stage -> row at the context's keys."""
    ledger, found = Ledger(context.root), dict[str, dict[str, Row]]()
    for stage, key in context.keys.items():
        for track_id, row in ledger.rows(stage, key, batch).items():
            found.setdefault(track_id, {})[stage] = row
    for track in catalog_of(context.root).read(batch):
        yield track, found.get(track.track_id, {})


def tracks_of(context: Context, batch: int) -> list[tuple[CatalogRow, dict[str, Row]]]:
    """The same with those rows alone that are in force; the context's keys must be those of its recipe."""
    with steady(context.root):
        return [(track, in_force(context, track, rows)) for track, rows in committed(context, batch)]


def wanted_items(stage: str, context: Context, batch: int) -> list[Item]:
    """The tracks of a batch that the stage is for, done or not."""
    node = NODES[stage]
    with steady(context.root):
        return [Item(track, rows) for track, rows in tracks_of(context, batch) if gets(node, context, track, rows)]


@dataclass(slots=True)
class _Keeper:
    """Commits rows as they come in, some at a time; `commit` at the end takes the rest."""

    ledger: Ledger
    stage: str
    key: str
    batch: int
    force: bool
    watcher: Watcher
    every: int  # rows a part, at least
    seconds: float  # between parts, at least
    waiting: list[Row] = field(default_factory=list)
    since: float = field(default_factory=monotonic)  # the last part

    def add(self, row: Row) -> None:
        self.waiting.append(row)
        self.watcher.add(row)
        if len(self.waiting) >= self.every and monotonic() - self.since >= self.seconds:
            self.commit()

    def commit(self) -> None:
        if self.waiting:
            self.ledger.commit(self.stage, self.key, self.batch, self.waiting, force=self.force)
            self.waiting, self.since = [], monotonic()


def run_batch(
    stage: str,
    context: Context,
    batch: int,
    engine: Engine,
    force: bool,
    watcher: Watcher,
    items: Sequence[Item] | None = None,
) -> BatchSummary:
    """Run one stage over one batch and commit what is new as it comes; with nothing to do, nothing is written.

    Whatever ends the run early, rows that came in before are committed. `items` are its `wanted_items` of just now,
    where the caller has them.
    """
    ledger, key = Ledger(context.root), context.keys[stage]
    items = wanted_items(stage, context, batch) if items is None else items
    todo = left_to_do(items, stage, force)
    rows: list[Row] = []
    if todo:
        every, seconds = max(LEAST, ceil(len(todo) / PARTS)), context.recipe.build.part_seconds
        keeper = _Keeper(ledger, stage, key, batch, force, watcher, every, seconds)
        watcher.start(len(todo))
        try:
            rows = engine.run(worker_of(stage, context.recipe), context, todo, keeper.add)
        finally:
            keeper.commit()
    if shrunk := sum(OUT_OF_MEMORY in row.message for row in rows):
        logger.warning(
            "%s, batch %d: a GPU's memory did not hold the batches of %d songs, and smaller ones were worked on; their "
            "rows say which (`backline why`), build.resources.%s gives its workers more of a GPU",
            stage, batch, shrunk, stage,
        )  # fmt: skip
    ids = {item.track.track_id for item in items}
    status = Counter(row.status for track_id, row in ledger.rows(stage, key, batch).items() if track_id in ids)
    return BatchSummary(
        stage=stage,
        batch=batch,
        wanted=len(items),
        worked=len(todo),
        ok=status["ok"],
        rejected=status["rejected"],
        quarantined=status["quarantined"],
        failed=status["failed"],
        seconds=sum(row.seconds for row in rows),
    )


def left_to_do(items: Sequence[Item], stage: str, force: bool) -> list[Item]:
    """Those that lack the stage or failed at it; all of them with `force`."""
    return [item for item in items if force or stage not in item.rows or item.rows[stage].status not in DONE]
