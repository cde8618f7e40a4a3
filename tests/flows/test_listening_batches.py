"""SongEval and SongFormer, tiny and random, given several songs at once: byte for byte the rows of each song alone."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from obedient import items
from tiny_paper import pull_all, write_mirror

from flows.engine import attempt as engine
from flows.engine.attempt import Item
from flows.recipe import load_recipe
from flows.stages.context import Context
from pipeline.assets.needs import Needs
from pipeline.audio import write
from pipeline.detection.stage import Detection
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row
from pipeline.records.values import dump
from pipeline.types import Audio, Span

RATE = 16_000
LENGTHS = (31.0, 2.51, 0.03, 12.0, 4.096)  # s; the third is too short for both
SIZE = Needs(batch_seconds=60.0).batch_size  # six pieces of up to 10 s, two of 30 s
QUALITY, STRUCTURE = (f"flows.stages.listening:{name}Worker" for name in ("Quality", "Structure"))
NETWORKS: Mapping[str, Callable[[Any], torch.nn.Module]] = {  # what hears a batch first
    QUALITY: lambda worker: worker.rater.muq.conformer.layers[0],
    STRUCTURE: lambda worker: worker.extractor.second.conformer.layers[0],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names, folder = ("muq", "songeval", "musicfm", "songformer"), tmp_path_factory.mktemp("assets")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("BACKLINE_ASSETS", str(folder / "store"))
        pull_all(write_mirror(folder / "mirror", *names), *names)
    return folder / "store"


@pytest.fixture
def songs(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    monkeypatch.setenv("BACKLINE_ASSETS", str(store))
    return [song(tmp_path, number, seconds) for number, seconds in enumerate(LENGTHS)]


def song(folder: Path, number: int, seconds: float) -> Item:
    """A tone of its own in every song, ever louder; someone sings in the first half."""
    time = np.arange(int(seconds * RATE)) / RATE
    tone = np.linspace(0.01, 0.9, len(time)) * np.sin(2 * np.pi * 150 * (number + 1) ** 2 * time)
    path = folder / f"{number}.wav"
    write(path, Audio(tone[None].astype(np.float32), RATE))
    content = sha256(path.read_bytes()).hexdigest()
    track: CatalogRow = replace(
        items("")[0].track, track_id=f"{number:032x}", uris=(str(path),), duration=seconds, sha256=content
    )
    values = dump(Detection("song", 0.5, 0.0, 1.0, "", (Span(0.0, seconds / 2),)))
    return Item(track, {"detection": Row(track_id=track.track_id, status="ok", values=values)})


def at_work(worker: str, folder: Path) -> tuple[Context, Any]:
    """The worker, with batches as on a GPU."""
    settings = ["quality.backend=songeval", "structure.backend=songformer", "library.decode={min_seconds: 0.0}"]
    context = Context(folder, load_recipe("demo", settings))
    loaded = cast(Any, engine._RESIDENT.get(worker, context))
    (loaded.rater if worker == QUALITY else loaded.extractor).size = SIZE
    return context, loaded


def told(rows: list[Row]) -> list[tuple[str, str, str, str, str]]:
    return [(row.status, row.reason, row.values, row.backend, row.weights_sha256) for row in rows]


@pytest.mark.parametrize("worker", [QUALITY, STRUCTURE])
def test_a_song_has_one_row_whoever_is_with_it(worker: str, songs: list[Item], tmp_path: Path) -> None:
    context, loaded = at_work(worker, tmp_path)
    alone = [engine.attempt(worker, context, item) for item in songs]
    assert [row.status for row in alone] == ["ok", "ok", "quarantined", "ok", "ok"], alone
    assert len({row.values for row in alone}) == len(songs)
    sizes: list[int] = []
    hook = NETWORKS[worker](loaded).register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    for count in (2, 5):
        rows: list[Row] = []
        for start in range(0, len(songs), count):
            rows += engine.attempts(worker, context, tuple(songs[start : start + count]))
        assert told(rows) == told(alone)
        assert not any(row.message for row in rows if row.status == "ok")
    hook.remove()
    assert max(sizes) == 6


@pytest.mark.parametrize("worker", [QUALITY, STRUCTURE])
def test_out_of_memory_tries_fewer_and_every_song_of_the_batch_says_so(
    worker: str, songs: list[Item], tmp_path: Path
) -> None:
    context, loaded = at_work(worker, tmp_path)

    def small(module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = NETWORKS[worker](loaded).register_forward_pre_hook(small)
    rows = engine.attempts(worker, context, (songs[1], songs[4]))
    hook.remove()
    name = {QUALITY: "SongEval", STRUCTURE: "SongFormer's listeners"}[worker]
    assert {(row.status, row.message) for row in rows} == {("ok", f"{name}: batch 6 -> 3, out of GPU memory")}
