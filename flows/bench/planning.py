"""Planning a build without building: a synthetic library through the real catalogue, splits and partitioning.

Conventions: no file of the library exists and no Prefect server is asked; what is measured is what any build does
before its first song. CPU seconds are this process's own.
"""

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from flows.bench.scale import ONCE
from flows.bench.tiny import synthetic_rows
from flows.build_partition import MOST_BATCHES
from flows.recipe import load_recipe
from flows.stages.graph import NODES
from pipeline.audio import Probe
from pipeline.records.catalog import Catalog
from pipeline.records.content import Content
from pipeline.records.library import Source
from pipeline.records.splits import fix_splits

SECONDS = 240.0  # of a song: the paper's 8,000 h of 140,000 songs would be 206 s; 100,000 h of 1.4 million are 257 s


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build of so many songs is going to be."""

    songs: int
    hours: float
    batches: int
    partitions: int
    task_runs: int  # stages times batches, the shards' and the one that catalogues too
    catalogue_cpu: float  # s, reading of files apart
    reopen_cpu: float  # s, of a later build that finds the catalogue there
    splits_cpu: float  # s
    catalog_bytes: int
    peak_bytes: int  # resident


def plan(root: Path, songs: int) -> Plan:
    """Catalogue `songs` songs under `root`, which must be new, and tell what a build of them comes to."""
    recipe, held = load_recipe("demo"), {row.uri: row for row in synthetic_rows(songs)}
    begun = time.process_time()
    catalog = Catalog(
        root,
        probe=lambda uri: Probe(SECONDS, 44_100, 2),
        content=lambda uri: Content(held[uri].sha256, held[uri].bytes),
    )
    catalog.add([Source(uri, artist=row.artist, licence=row.licence) for uri, row in held.items()])
    catalogued = time.process_time()
    again = Catalog(root)
    rows = again.rows()
    reopened = time.process_time()
    fix_splits(root, recipe.splits, rows)
    batches = len(again.batches())
    return Plan(
        songs=len(rows),
        hours=sum(row.duration for row in rows) / 3600,
        batches=batches,
        partitions=-(-batches // MOST_BATCHES),
        task_runs=(len(NODES) + 1) * batches + ONCE,
        catalogue_cpu=catalogued - begun,
        reopen_cpu=reopened - catalogued,
        splits_cpu=time.process_time() - reopened,
        catalog_bytes=sum(path.stat().st_size for path in catalog_files(root)),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def catalog_files(root: Path) -> list[Path]:
    return sorted((root / "catalog").glob("part-*.parquet"))
