"""BSRNN, tiny and random, with several songs at once: the stems of each alone, and what is bad stays with its song."""

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
from flows.engine.attempt import Batch, Item
from flows.engine.resources import resources_of
from flows.recipe import load_recipe
from flows.stages.context import BatchWorker, Context
from flows.stages.graph import NODES
from pipeline.audio import write
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row
from pipeline.types import Audio

WORKER = NODES["separation"].worker
RATE = 44_100
OUTCOMES = ["ok", "ok", "ok", "FileMissingError", "silent", "stem_lengths", "ok"]  # reasons, or that all is well


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "assets"))
    pull_all(write_mirror(tmp_path / "mirror", "bsrnn"), "bsrnn")
    return Context(tmp_path, load_recipe("demo", ["separation.backend=bsrnn"]), {"separation": "0123abcd"})


def separator(context: Context) -> Any:
    """That of the worker, as on a GPU."""
    worker = engine._RESIDENT.get(WORKER, context)
    assert isinstance(worker, BatchWorker)
    made = cast(Any, worker).separator
    made.at_once = 4
    return made


def batch(folder: Path) -> Batch:
    """Songs of unequal lengths, rates and channels; among them one that is gone, a silent one, and true stems."""
    songs = [song(folder, 0, 5.0), song(folder, 1, 8.0, channels=1), song(folder, 2, 6.3, rate=16_000)]
    songs += [song(folder, 3, 5.0), song(folder, 4, 5.0, level=0.0)]
    Path(songs[3].uri).unlink()
    for number, vocal in ((5, 5.1), (6, 5.2)):
        track = song(folder, number, 5.2)
        sung = song(folder, 10 + number, vocal).uri
        songs.append(replace(track, vocal_uri=sung, accompaniment_uri=track.uri))
    return tuple(Item(track, {}) for track in songs)


def song(
    folder: Path, number: int, seconds: float, rate: int = RATE, channels: int = 2, level: float = 0.1
) -> CatalogRow:
    noise = level * np.random.default_rng(number).standard_normal((channels, round(seconds * rate)))
    path = folder / f"{number}.wav"
    write(path, Audio(noise.astype(np.float32), rate))
    content = sha256(path.read_bytes()).hexdigest()
    track = replace(items("")[0].track, track_id=f"{number:032x}", uris=(str(path),), duration=seconds)
    return replace(track, sha256=content, sample_rate=rate)


def told(row: Row) -> tuple[object, ...]:
    """All that a row says of the song's result; artefacts with the hashes of their bytes."""
    return row.status, row.reason, row.message, row.values, row.artefacts, row.backend, row.weights_sha256


def test_stems_are_those_of_songs_that_were_separated_alone(context: Context, tmp_path: Path) -> None:
    songs, sizes = batch(tmp_path), list[int]()
    separator(context).network.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    together = engine.attempts(WORKER, context, songs)
    count = len(sizes)
    alone = [engine.attempt(WORKER, context, item) for item in songs]
    assert [row.reason or row.status for row in together] == OUTCOMES
    assert [told(row)[:2] for row in together] == [told(row)[:2] for row in alone]
    assert [told(row) for row in together if row.status == "ok"] == [told(row) for row in alone if row.status == "ok"]
    hashes = [artefact.sha256 for row in together for artefact in row.artefacts]
    assert len(set(hashes)) == len(hashes) == 2 * 4
    assert set(sizes) == {4}
    assert count < len(sizes) - count
    assert "true stems given" in together[6].message


def test_every_song_says_that_its_batch_had_to_shrink(context: Context, tmp_path: Path) -> None:
    def small(module: object, args: tuple[torch.Tensor, ...]) -> None:
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = separator(context).network.register_forward_pre_hook(small)
    rows = engine.attempts(WORKER, context, batch(tmp_path)[:2])
    hook.remove()
    assert {(row.status, row.message) for row in rows} == {("ok", "BSRNN: batch 4 -> 2, out of GPU memory")}


def test_stages_on_a_gpu_take_several_songs_and_those_on_a_cpu_one() -> None:
    stages = ("separation", "tokenization", "tokenization-copies")
    on_gpu, on_cpu = load_recipe("paper"), load_recipe("demo")
    assert [resources_of(NODES[name].worker, on_gpu).songs_seconds for name in stages] == [600.0] * 3
    assert [resources_of(NODES[name].worker, on_cpu).songs_seconds for name in stages] == [0.0] * 3
    codec = load_recipe("demo", ["codec={backend: mucodec, device: cpu}", "separation={backend: demucs}"])
    assert [resources_of(NODES[name].worker, codec).songs_seconds for name in stages] == [0.0] * 3
