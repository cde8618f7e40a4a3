"""Render songs with a progress bar, one process a core."""

import os
from pathlib import Path

from tqdm import tqdm

from pipeline.songs.render import render_library
from pipeline.songs.truth import Kind


def render_songs(out: Path, count: int, seed: int, kind: Kind) -> Path:
    """Render into `out`; the manifest's path. Finished folders are skipped."""
    with tqdm(total=count, desc=f"render {kind}", unit="song", disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.update(done - bar.n)

        return render_library(out, count, seed, kind, show, workers=min(count, os.cpu_count() or 1))
