"""One stage over one batch: who still lacks the stage, the engine's run, the ledger's commit."""

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from flows.engine.attempt import Item
from flows.engine.local import LocalEngine
from flows.stages.context import Context
from flows.stages.graph import NODES, gets
from pipeline.records.catalog import Catalog, CatalogRow
from pipeline.records.ledger import Ledger, Row

DONE = ("ok", "rejected", "quarantined")  # a failed song is tried again by the next build


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


def rows_before(ledger: Ledger, context: Context, batch: int) -> dict[str, dict[str, Row]]:
    """Track id -> stage -> row, of every stage at this recipe's keys."""
    found: dict[str, dict[str, Row]] = {}
    for stage, key in context.keys.items():
        for track_id, row in ledger.rows(stage, key, batch).items():
            found.setdefault(track_id, {})[stage] = row
    return found


def wanted_items(stage: str, context: Context, batch: int) -> list[Item]:
    """The tracks of a batch that the stage is for, done or not."""
    catalog, ledger, node = Catalog(context.root), Ledger(context.root), NODES[stage]
    rows = rows_before(ledger, context, batch)

    def item(track: CatalogRow) -> Item | None:
        mine = rows.get(track.track_id, {})
        return Item(track, mine) if gets(node, context, track, mine) else None

    return [found for track in catalog.read(batch) if (found := item(track))]


def run_batch(
    stage: str, context: Context, batch: int, engine: LocalEngine, force: bool, watcher: Watcher
) -> BatchSummary:
    """Run one stage over one batch and commit what is new; with nothing to do, nothing is written."""
    ledger, key = Ledger(context.root), context.keys[stage]
    items = wanted_items(stage, context, batch)
    todo = [item for item in items if force or not _done(item, stage)]
    rows: list[Row] = []
    if todo:
        watcher.start(len(todo))
        rows = engine.run(NODES[stage].worker, context, todo, watcher.add)
        ledger.commit(stage, key, batch, rows, force=force)
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


def _done(item: Item, stage: str) -> bool:
    return stage in item.rows and item.rows[stage].status in DONE
