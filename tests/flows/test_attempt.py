"""What a row says of the work behind it: seconds by phase, memory, and when it was."""

import math
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stage_rows import TRACK, loud_song

from flows.engine import memory
from flows.engine.attempt import Item, attempt
from flows.recipe import load_recipe
from flows.stages.context import Context, Made, Rows, Source
from pipeline.batching import remark
from pipeline.errors import BadInput
from pipeline.phases import phase
from pipeline.records.catalog import CatalogRow
from pipeline.records.store import Store
from pipeline.types import Audio

HERE = "test_attempt"
HELD = 64_000_000  # bytes


class Keeper:
    """Loads for a while, then keeps a second of audio and reads it back; `text` asks for other ends."""

    def __init__(self, context: Context) -> None:
        time.sleep(0.02)
        self.store = Store(context.root / "kept")

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        if track.text == "bad":
            with phase("decode"):
                raise BadInput("nobody can use this", reason="useless")
        if track.text == "tight":
            remark("MuQ: batch 8 -> 4, out of GPU memory")
        if track.text == "heavy":
            return Made(int(np.ones(HELD, np.uint8).sum()), Source("keeper"))
        audio = Audio(np.zeros((1, 48_000), np.float32), 48_000)
        artefact = self.store.put_audio(TRACK, "vocal", audio)
        return Made(self.store.get_audio(artefact).length, Source("keeper"), artefacts=(artefact,))


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, load_recipe("demo"))


def song(text: str = "") -> Item:
    return Item(replace(loud_song(), text=text), {})


def test_a_batch_that_had_to_shrink_is_told_in_the_row_and_changes_nothing_else(context: Context) -> None:
    tight, plain = (attempt(f"{HERE}:Keeper", context, song(text)) for text in ("tight", ""))
    assert (tight.message, plain.message) == ("MuQ: batch 8 -> 4, out of GPU memory", "")
    assert (tight.status, tight.values, tight.artefacts) == (plain.status, plain.values, plain.artefacts)


def test_phases_add_up_to_the_seconds_and_loading_is_told_apart(context: Context) -> None:
    before = time.time()
    first, second = (attempt(f"{HERE}:Keeper", context, song()) for _ in range(2))
    assert set(first.phases) == {"load", "write", "read", "work"}
    assert first.phases["load"] >= 0.02 > second.phases["load"]
    for row in (first, second):
        told = dict(row.phases)
        loading = told.pop("load")
        assert row.seconds == pytest.approx(math.fsum(told.values()))
        assert min(told.values()) > 0
        assert before - 1 <= row.begun <= row.begun + row.seconds + loading <= time.time() + 1


def test_a_song_that_can_not_be_used_tells_where_its_time_went(context: Context) -> None:
    row = attempt(f"{HERE}:Keeper", context, song("bad"))
    assert (row.status, row.reason) == ("quarantined", "useless")
    assert "decode" in row.phases


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists() and os.environ.get("CI") != "true", reason="only Linux forgets a peak"
)
def test_the_peak_is_that_of_one_song_not_of_the_process(context: Context) -> None:
    heavy, light = (attempt(f"{HERE}:Keeper", context, song(text)) for text in ("heavy", ""))
    assert heavy.peak_bytes - light.peak_bytes > 0.8 * HELD
    assert light.peak_bytes > 0


def test_where_the_system_keeps_no_peak_that_of_the_process_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    known = memory.peak_bytes()
    monkeypatch.setattr(memory, "_STATUS", Path("/nowhere/status"))
    monkeypatch.setattr(memory, "_CLEAR", Path("/nowhere/clear"))
    memory.reset_peak()
    assert 0.5 * known < memory.peak_bytes() < 100 * known
