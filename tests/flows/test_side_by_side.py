"""Batches side by side, as on a cluster: threads of one process share catalogue, ledger, groups and stores, and what
they make together is what one thread makes, however often and wherever the interpreter takes turns.
"""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tiny_build import Job, Silent, context_of, outcome, sources, write_library

from flows.bench import noop
from flows.engine.attempt import Item
from flows.engine.engine import OnRow
from flows.engine.stems import run_batch_with_stems
from flows.shards import config_hash, dataset_directory, shard_batch
from flows.stages.context import Context, to_row
from flows.stages.graph import NODES
from pipeline.records import files
from pipeline.records.catalog import Catalog
from pipeline.records.groups import Member, commit_groups
from pipeline.records.ledger import Row
from pipeline.records.sharding import write_manifest
from pipeline.records.splits import SplitConfig, fix_splits

BUILDS = 20
SONGS = 6  # a batch each
SETTINGS = ("build.keep_stems=none", "rehearsal.results={rejected: 0.0, quarantined: 0.0}")
HASTE = 1e-6  # s between turns of the interpreter; 5 ms by default


class InThisThread:
    """As the engine of a cluster looks to a batch: its rows come back in the batch's own thread."""

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        made = getattr(noop, worker.partition(":")[2])(context)
        rows = [to_row(item.track, made(item.track, item.rows)) for item in items]
        for row in rows:
            on_row(row)
        return rows

    def close(self) -> None: ...


def build(job: Job, lanes: int) -> dict[str, Any]:
    """Every batch in a thread of its own; what came of it."""
    context = context_of(job)
    root = context.root
    files.prepare(root)
    catalog = Catalog(root)
    catalog.add(sources(job.library), job.batch_size)
    tracks = [row for batch in catalog.batches() for row in catalog.read(batch)]
    fix_splits(root, SplitConfig(min_val=0, min_test=0, val_fraction=0, test_fraction=0), tracks)
    pair = [Member(tracks[n].track_id, n, tracks[0].track_id, "train") for n in (0, 4)]  # 4 is a copy of 0
    assert commit_groups(root, 0, len(tracks), pair, [])
    directory = dataset_directory(root, context.recipe.name)

    def lane(batch: int) -> list[Any]:
        for stage in NODES:
            summary = run_batch_with_stems(stage, context, batch, InThisThread(), False, Silent())
            assert summary.failed == 0
        return shard_batch(context, batch, directory).sidecars

    with ThreadPoolExecutor(lanes) as pool:
        sidecars = [sidecar for made in pool.map(lane, catalog.batches()) for sidecar in made]
    write_manifest(directory, context.recipe.name, config_hash(context), sidecars, context.keys)
    return outcome(root)


@pytest.fixture
def haste() -> Iterator[None]:
    """Threads take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(HASTE)
    yield
    sys.setswitchinterval(before)


def test_batches_side_by_side_make_what_one_after_the_other_makes(tmp_path: Path, haste: None) -> None:
    library = tmp_path / "library"
    library.mkdir()
    write_library(library, SONGS)
    alone = build(Job(str(tmp_path / "alone"), str(library), SETTINGS, batch_size=1), lanes=1)
    assert alone["wrong"] == []
    assert len(alone["samples"]) > SONGS
    for number in range(BUILDS):
        assert build(Job(str(tmp_path / f"{number}"), str(library), SETTINGS, batch_size=1), lanes=SONGS) == alone
