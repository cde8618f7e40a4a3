"""Builds of a tiny library with stand-ins for the stages, for tests of the machinery around them."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from flows.build_dataset import BuildParameters
from flows.work import open_build
from pipeline.records import files

SONGS, BATCH = 32, 8


def rehearsal(library: Path, root: Path, *settings: str, **others: Any) -> BuildParameters:
    """A build of the manifest `library`, whose songs are all made up."""
    overrides = [f"library.batch_size={BATCH}", "build.workers=1", *settings]
    if not any(text.startswith("rehearsal") for text in overrides):
        overrides.append("rehearsal={}")
    return BuildParameters(library=str(library), root=str(root), overrides=overrides, **others)


def track(library: Path, number: int) -> str:
    """The track id of a song of the library."""
    return sha256((library.parent / "0000" / f"{number:07d}.wav").read_bytes()).hexdigest()[:32]


def manifest_of(build: BuildParameters) -> str:
    """sha256 of the manifest that the build published."""
    context = open_build(build)
    return files.digest(context.root / "datasets" / context.recipe.name / "manifest.json")[0]
