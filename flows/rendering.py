"""Render songs with a progress bar, one process a core."""

import os
from pathlib import Path

from tqdm import tqdm

from pipeline.songs.faults import FormFault
from pipeline.songs.render import render_library
from pipeline.songs.truth import Kind


def render_songs(out: Path, count: int, seed: int, kind: Kind, fault: FormFault = "", workers: int = 0) -> Path:
    """Render into `out`; the manifest's path. Finished folders are skipped; `workers` 0: one for each core."""
    workers = min(count, workers or os.cpu_count() or 1)
    with tqdm(total=count, desc=f"render {fault or kind}", unit="song", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        return render_library(out, count, seed, kind, show, workers, fault=fault)
