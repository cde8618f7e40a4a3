"""Qwen2-Audio, tiny and random, with several songs at once: byte for byte what it says of each of them alone."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from obedient import items
from tiny_published import install_tiny

from flows.engine import attempt as engine
from flows.engine.attempt import Item
from flows.engine.resources import resources_of
from flows.recipe import load_recipe
from flows.stages.context import Context
from pipeline.annotation.stage import Annotation
from pipeline.audio import write
from pipeline.records.catalog import CatalogRow
from pipeline.records.ledger import Row
from pipeline.records.values import load
from pipeline.types import Audio

WORKER = "flows.stages.listening:AnnotationWorker"
LENGTHS = (65.0, 31.0, 12.0, 61.0, 12.0)  # s: two, one, one shorter, two and one shorter excerpts of 30 s


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[CatalogRow]:
    monkeypatch.setenv("BACKLINE_ASSETS", str(tmp_path / "store"))
    install_tiny("qwen2-audio", tmp_path / "made")
    return [song(tmp_path, number, seconds) for number, seconds in enumerate(LENGTHS)]


def song(folder: Path, number: int, seconds: float) -> CatalogRow:
    """A tone of its own in every song, ever louder, so that no excerpt is like another."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    tone = np.linspace(0.01, 0.9, len(time)) * np.sin(2 * np.pi * 150 * (number + 1) ** 2 * time)
    path = folder / f"{number}.wav"
    write(path, Audio(tone[None].astype(np.float32), 16_000))
    content = sha256(path.read_bytes()).hexdigest()
    track = items("")[0].track
    return replace(track, track_id=f"{number:032x}", uris=(str(path),), duration=seconds, sha256=content)


def told(rows: list[Row]) -> list[tuple[str, str, str, str]]:
    return [(row.status, row.values, row.backend, row.weights_sha256) for row in rows]


def test_a_song_is_described_alike_whoever_is_with_it(songs: list[CatalogRow], tmp_path: Path) -> None:
    caption = "{precision: float32, max_tokens: 6}"
    settings = ["annotation.backend=qwen2_audio", f"annotation.caption={caption}"]
    context = Context(tmp_path, load_recipe("demo", settings))
    annotator = cast(Any, engine._RESIDENT.get(WORKER, context)).annotator
    sizes: list[int] = []
    annotator._network.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    for weights in annotator._network.requires_grad_(False).parameters():
        weights.mul_(8.0)  # as they were drawn, it says the same of every sound
    annotator.at_once = 4  # as on a GPU
    alone = [engine.attempt(WORKER, context, Item(track, {})) for track in songs]
    assert {row.status for row in alone} == {"ok"}, alone
    assert len({row.values for row in alone}) == len(songs)
    for count in (2, 5):
        rows: list[Row] = []
        for start in range(0, len(songs), count):
            rows += engine.attempts(WORKER, context, tuple(Item(track, {}) for track in songs[start : start + count]))
        assert told(rows) == told(alone)
    assert set(sizes) == {4}


@pytest.mark.parametrize("backend", ["qwen3_asr", "whisper"])
def test_lyrics_of_a_song_are_the_same_whoever_is_with_it(
    backend: str, songs: list[CatalogRow], tmp_path: Path
) -> None:
    install_tiny({"qwen3_asr": "qwen3-asr"}.get(backend, backend), tmp_path / "lyrics")
    caption = "annotation.caption={precision: float32, max_tokens: 1}"
    lyrics = f"annotation.lyrics={{backend: {backend}, precision: float32, max_tokens: 4}}"
    context = Context(tmp_path, load_recipe("demo", ["annotation.backend=qwen2_audio", caption, lyrics]))
    recogniser = cast(Any, engine._RESIDENT.get(WORKER, context)).annotator._recogniser
    recogniser.shared = True  # as on a GPU
    for weights in recogniser._network.requires_grad_(False).parameters():
        weights.mul_(8.0)
    chosen = [songs[number] for number in (2, 0, 1)]
    alone = [engine.attempt(WORKER, context, Item(track, {})) for track in chosen]
    assert {row.status for row in alone} == {"ok"}, alone
    assert len({load(Annotation, row.values).lyrics for row in alone}) > 1
    assert told(list(engine.attempts(WORKER, context, tuple(Item(track, {}) for track in chosen)))) == told(alone)


def test_out_of_memory_tries_fewer_excerpts_and_every_song_of_the_batch_says_so(
    songs: list[CatalogRow], tmp_path: Path
) -> None:
    settings = ["annotation.backend=qwen2_audio", "annotation.caption={precision: float32, max_tokens: 3}"]
    context = Context(tmp_path, load_recipe("demo", settings))
    annotator = cast(Any, engine._RESIDENT.get(WORKER, context)).annotator
    annotator.at_once = 4

    def small(module: object, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        if len(kwargs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    annotator._network.register_forward_pre_hook(small, with_kwargs=True)
    rows = engine.attempts(WORKER, context, tuple(Item(track, {}) for track in songs))
    assert {(row.status, row.message) for row in rows} == {("ok", "Qwen2-Audio: batch 4 -> 2, out of GPU memory")}


@pytest.mark.parametrize("stage", ["Annotation", "Quality", "Structure"])
def test_stages_on_a_gpu_are_given_several_songs_at_once_and_others_one(stage: str) -> None:
    worker = f"flows.stages.listening:{stage}Worker"
    on_cpu = load_recipe("paper", [f"{stage.lower()}.device=cpu"])
    recipes = (load_recipe("paper"), load_recipe("demo"), on_cpu)
    assert [resources_of(worker, recipe).songs_seconds for recipe in recipes] == [1200.0, 0.0, 0.0]
