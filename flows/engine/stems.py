"""Stems come and go: made again where a stage needs ones that were not kept, removed once nothing needs them.

Conventions: a song whose stems were let go has a newer ledger row without artefacts; its codes, scores and shards stay.
Files go first and the row follows, so a build that was killed between the two is finished by the next one.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flows.engine.attempt import Item
from flows.engine.batch import DONE, BatchSummary, Watcher, left_to_do, run_batch, tracks_of, wanted_items
from flows.engine.engine import Engine
from flows.stages.context import Context, Rows
from flows.stages.graph import NODES, gets, worker_of
from pipeline.errors import PipelineError
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Ledger, Row

READS: Mapping[str, str] = {  # stage -> the stage whose stems it hears
    "artifacts": "separation",
    "augmentation": "separation",
    "tokenization": "separation",
    "tokenization-copies": "augmentation",
}
MAKERS = ("augmentation", "separation")
LAST = "tokenization-copies"  # of the stages that hear stems
BYTES_PER_SECOND = 2 * 2 * 3 * 48_000  # of a song's two stereo stems as 24-bit PCM; FLAC is never larger, mostly half


class NoSpaceError(PipelineError):
    """The disk can't hold what a stage is going to write."""


def run_batch_with_stems(
    stage: str, context: Context, batch: int, engine: Engine, force: bool, watcher: Watcher
) -> BatchSummary:
    """`run_batch`, with the stems that the stage hears there before and those that nobody hears again gone after it.

    `NoSpaceError` before any work where the stems of the batch would not fit.
    """
    items = wanted_items(stage, context, batch)
    todo = left_to_do(items, stage, force)
    if stage in READS and _make_again(READS[stage], context, batch, engine, todo):
        items = wanted_items(stage, context, batch)
    if stage in MAKERS:
        _require_space(context, stage, todo)
    summary = run_batch(stage, context, batch, engine, force, watcher, items)
    if stage == LAST and context.recipe.build.keep_stems != "all":
        release(context, batch)
    return summary


def release(context: Context, batch: int) -> int:
    """Remove the batch's stems that no stage of this recipe hears again; the number of songs."""
    free = [(track, rows) for track, rows in tracks_of(context, batch) if _is_through(context, track, rows)]
    for maker in MAKERS:
        gone = [rows[maker] for track, rows in free if _may_go(context, track, rows.get(maker))]
        if gone:
            context.store(maker).remove(artefact for row in gone for artefact in row.artefacts)
            bare = [replace(row, artefacts=()) for row in gone]
            Ledger(context.root).commit(maker, context.keys[maker], batch, bare, force=True)
    return len(free)


def _may_go(context: Context, track: CatalogRow, row: Row | None) -> bool:
    """Held-out songs' stems are what evaluation compares with: they go with `none` alone."""
    held_out = context.recipe.build.keep_stems == "until_tokenized" and context.split(track) != "train"
    return row is not None and bool(row.artefacts) and not held_out


def _is_through(context: Context, track: CatalogRow, rows: Rows) -> bool:
    """Whether every stage that hears this song's stems is done with it, or never gets it."""
    heard = (stage for stage in READS if gets(NODES[stage], context, track, rows))
    return all(stage in rows and rows[stage].status in DONE for stage in heard)


def _make_again(maker: str, context: Context, batch: int, engine: Engine, heard_by: Sequence[Item]) -> int:
    """Make again what a stage is going to hear of these songs and what is not there; the number of songs."""
    store = context.store(maker)
    missing = {
        item.track.track_id
        for item in heard_by
        if maker in item.rows and item.rows[maker].status == "ok"
        if not item.rows[maker].artefacts or not all(store.has(artefact) for artefact in item.rows[maker].artefacts)
    }
    if not missing:
        return 0
    items = [item for item in wanted_items(maker, context, batch) if item.track.track_id in missing]
    if maker in READS and _make_again(READS[maker], context, batch, engine, items):
        items = [item for item in wanted_items(maker, context, batch) if item.track.track_id in missing]
    _require_space(context, maker, items)
    rows = engine.run(worker_of(maker, context.recipe), context, items, lambda row: None)
    Ledger(context.root).commit(maker, context.keys[maker], batch, rows, force=True)
    return len(missing)


def _require_space(context: Context, stage: str, items: Sequence[Item]) -> None:
    if not isinstance(context.root, Path):
        return  # an object store
    need = sum(item.track.duration for item in items) * BYTES_PER_SECOND
    free = shutil.disk_usage(context.root).free
    if need > free:
        raise NoSpaceError(
            f"{stage} needs up to {need / 1e9:.1f} GB for the stems of {len(items)} songs, {context.root} has "
            f"{free / 1e9:.1f} GB free; free some, take a smaller library.batch_size in a new root, or set "
            "build.keep_stems to until_tokenized"
        )
