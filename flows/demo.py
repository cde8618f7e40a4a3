"""`make demo`: the whole job, small but real, on songs rendered here or on the user's own, topped up."""

import csv
import logging
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from flows.build_dataset import BuildParameters, build_dataset
from flows.evaluate_model import EvaluateParameters, evaluate_model
from flows.recipe import load_recipe
from flows.rendering import render_songs
from flows.shards import tracks
from flows.train_model import TrainParameters, train_model
from flows.work import open_build
from pipeline.records.library import Source, scan_library
from pipeline.songs.truth import Kind

logger = logging.getLogger(__name__)
COLUMNS = ("path", "split", "artist", "text", "licence", "vocal", "accompaniment")
USER_SEEDS = 5000  # seeds of top-up songs, apart from those of a plain demo


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much the demo renders; a quarter of the songs are test songs."""

    songs: int = 24  # enough to train on in minutes; ours
    speech: int = 2  # podcasts, for the detector to drop
    instrumental: int = 2


def run_demo(out: Path, library: str, size: DemoSize, recipe: str = "demo") -> Path:
    """Songs -> dataset -> model -> accompaniments -> report; the report's path.

    What an earlier run finished is kept, all but the evaluation. Each library has a build of its own.
    """
    out = out.absolute()
    base = out / f"library-{sha256(library.encode()).hexdigest()[:8]}" if library else out
    manifest = prepare_library(base, library, size, recipe)
    built = build_dataset(BuildParameters(recipe=recipe, library=str(manifest), root=str(base / "build")))
    if built.dataset is None:
        raise AssertionError("a full build publishes a dataset")
    dataset = str(built.dataset.directory)
    run = load_recipe(recipe).train_run().model_dump_json()
    identity = sha256(f"{built.dataset.manifest_sha256}{run}".encode()).hexdigest()[:8]
    model = base / f"model-{identity}"  # other songs or settings, another model
    train_model(TrainParameters(recipe=recipe, dataset=dataset, out=str(model)))
    return evaluate_model(EvaluateParameters(recipe=recipe, checkpoint=str(model), dataset=dataset, out=str(out)))


def prepare_library(base: Path, library: str, size: DemoSize, recipe: str) -> Path:
    """One manifest of the user's songs and the rendered ones."""
    base.mkdir(parents=True, exist_ok=True)
    mine = scan_library(library) if library else []
    usable = count_songs(base, library, recipe, mine) if library else 0
    missing = max(0, size.songs - usable)
    if library:
        logger.info("%d of %d files in %s are songs; rendering %d more", usable, len(mine), library, missing)
    counts: dict[Kind, int] = {"song": missing}
    if not library:
        counts |= {"speech": size.speech, "instrumental": size.instrumental}
    rendered: list[Source] = []
    for kind, count in counts.items():
        if count > 0:
            seed = USER_SEEDS if library else 0
            rendered += scan_library(str(render_songs(base / "songs" / kind, count, seed, kind)))
    return write_manifest(base / "library.csv", [*mine, *rendered])


def count_songs(base: Path, library: str, recipe: str, mine: list[Source]) -> int:
    """How many of the user's files the detector calls songs: the first stage of the very build that follows."""
    build = BuildParameters(recipe=recipe, library=library, root=str(base / "build"), stages=["detection"])
    build_dataset(build)
    uris = {source.uri for source in mine}
    return sum(
        not uris.isdisjoint(track.uris) and "detection" in rows and rows["detection"].status == "ok"
        for track, rows in tracks(open_build(build))
    )


def write_manifest(path: Path, sources: list[Source]) -> Path:
    """The sources as a CSV manifest."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for s in sources:
            table.writerow((s.uri, s.split, s.artist, s.text, s.licence, s.vocal, s.accompaniment))
    return path
