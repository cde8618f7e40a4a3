"""MuCodec and CLaMP3, tiny and random, with several songs at once: byte for byte the tokens of each alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from obedient import items
from tiny_paper import pull_all, write_mirror

from flows.engine import attempt as engine
from flows.engine.attempt import Batch, Item
from flows.recipe import load_recipe
from flows.stages.context import BatchWorker, Context, Made, Source, to_row
from flows.stages.graph import NODES
from flows.stages.stems import SeparationFacts
from flows.stages.tokens import CopyTokenizationWorker, TokenizationWorker
from pipeline.annotation.stage import Annotation
from pipeline.codec.mucodec.settings import ASSETS
from pipeline.conditioning.conditioner import CLAMP3_ASSETS
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row
from pipeline.records.splits import fix_splits
from pipeline.types import Audio

WORKER = NODES["tokenization"].worker
SETTINGS = [
    "splits={val_fraction: 0.0, test_fraction: 0.0, min_val: 0, min_test: 0}", "codec.backend=mucodec",
    "conditioning={backend: clamp3, reference_seconds: 6.5}",
    "tokenization={variants: 1, reference_hop_seconds: 2.0}",
]  # fmt: skip


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "assets"))
    names = (*ASSETS, *CLAMP3_ASSETS)
    pull_all(write_mirror(tmp_path / "mirror", *names), *names)
    keys = {"separation": "0123abcd", "tokenization": "4567abcd"}
    return Context(tmp_path, load_recipe("demo", SETTINGS), keys)


def worker(context: Context) -> Any:
    """As on a GPU."""
    made = cast(Any, engine._RESIDENT.get(WORKER, context))
    made.codec.encoded_at_once, made.conditioner.at_once = 5, 4
    return made


def batch(context: Context) -> Batch:
    """A song for training, and a held-out one that is shorter than a reference window."""
    songs = [song(context, number, *told) for number, told in enumerate([("train", 9.0), ("test", 5.0)])]
    fix_splits(context.root, context.recipe.splits, [item.track for item in songs])
    return tuple(songs)


def song(context: Context, number: int, split: str, seconds: float, missing: int = 0) -> Item:
    """With what separation and annotation kept; `missing` samples of its vocal."""
    track: CatalogRow = replace(items("")[0].track, track_id=f"{number:032x}", duration=seconds, split=split)
    rng, store = np.random.default_rng(number), context.store("separation")
    length = round(seconds * 48_000)
    stems = {"vocal": length - missing, "accompaniment": length}
    kept = tuple(
        store.put_audio(track.track_id, name, Audio(rng.normal(0, 0.1, (2, n)).astype(np.float32), 48_000))
        for name, n in stems.items()
    )
    captions = tuple(f"song {number}, caption {n}" * (n + 1) for n in range(number + 1))
    rows = {
        "separation": to_row(track, Made(SeparationFacts(length, False), Source("toy"), artefacts=kept)),
        "annotation": to_row(track, Made(Annotation(captions, (), ""), Source("toy"))),
    }
    return Item(track, rows)


def told(row: Row) -> tuple[object, ...]:
    """All that a row says of the song's result; the artefact with the hash of its bytes."""
    return row.status, row.reason, row.message, row.values, row.artefacts, row.backend, row.weights_sha256


def test_tokens_are_those_of_songs_that_were_tokenized_alone(context: Context) -> None:
    songs, made = batch(context), worker(context)
    windows, heard = list[int](), list[int]()
    made.codec.networks.muq.register_forward_pre_hook(lambda module, args: windows.append(len(args[0])))
    made.conditioner.ears.register_forward_pre_hook(lambda module, args: heard.append(len(args[0])))
    bad = song(context, 9, "train", 6.0, missing=1)
    together = engine.attempts(WORKER, context, (songs[0], bad, *songs[1:]))
    counts = [len(windows), len(heard)]
    failed = together[1]
    assert (failed.status, failed.reason) == ("failed", "ValueError")
    assert "equally long" in failed.message
    alone = [engine.attempt(WORKER, context, item) for item in songs]
    assert [told(together[n]) for n in (0, 2)] == [told(row) for row in alone]
    assert {row.status for row in alone} == {"ok"}
    assert len({row.artefacts[0].sha256 for row in alone}) == 2
    assert set(windows) == {5}
    assert set(heard) == {4}
    assert counts[0] < len(windows) - counts[0]
    assert counts[1] == len(heard) - counts[1] > 0  # the held-out song is shorter than a reference window


def test_every_song_says_that_its_batch_had_to_shrink(context: Context) -> None:
    songs, made = batch(context), worker(context)

    def small(module: object, args: tuple[torch.Tensor, ...]) -> None:
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    made.conditioner.ears.register_forward_pre_hook(small)
    made.codec.encoded_at_once = 1
    rows = engine.attempts(WORKER, context, songs)
    assert {(row.status, row.message) for row in rows} == {("ok", "MERT: batch 4 -> 2, out of GPU memory")}


def test_copies_go_together_as_songs_do() -> None:
    assert issubclass(CopyTokenizationWorker, BatchWorker)
    assert CopyTokenizationWorker.together is TokenizationWorker.together
    assert CopyTokenizationWorker.prepare is TokenizationWorker.prepare
