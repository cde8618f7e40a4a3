"""A stand-in for the engine that makes what the stages would, at once, for tests of what a build keeps."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from stage_rows import QUIET, SAMPLES, song_rows

from flows.engine.attempt import Item
from flows.engine.engine import Engine, OnRow
from flows.engine.stems import run_batch_with_stems
from flows.stages.context import Context
from flows.stages.graph import NODES
from flows.stages.stems import AugmentedFacts, SeparationFacts
from pipeline.codec.codec import token_count
from pipeline.records.ledger import Row
from pipeline.records.store import Artefact
from pipeline.records.values import dump
from pipeline.structure.stage import Structure
from pipeline.types import Audio, Section


class Silent:
    def start(self, total: int) -> None: ...

    def add(self, row: Row) -> None: ...


@dataclass
class ToyEngine:
    """Makes what the stages would, at once; a stage that hears stems reads them, and fails without."""

    context: Context
    worked: Counter[str] = field(default_factory=Counter)

    def run(self, worker: str, context: Context, items: Sequence[Item], on_row: OnRow) -> list[Row]:
        stage = next(name for name, node in NODES.items() if node.worker == worker)
        rows = [self.row(stage, item) for item in items]
        self.worked[stage] += len(rows)
        for row in rows:
            on_row(row)
        return rows

    def row(self, stage: str, item: Item) -> Row:
        track_id, store = item.track.track_id, self.context.store(stage)
        heard = {"artifacts": "separation", "augmentation": "separation", "tokenization": "separation"}
        source = heard.get(stage, "augmentation" if stage == "tokenization-copies" else "")
        if source:
            self.context.kept_audio(source, item.rows[source], "vocal")
        if stage in ("separation", "augmentation"):
            sound = Audio(np.full((2, 480), int(track_id[:4], 16) / 2**17, np.float32), 48_000)
            kept: tuple[Artefact, ...] = tuple(store.put_audio(track_id, n, sound) for n in ("vocal", "accompaniment"))
            shape = Structure((Section(0.0, 1.0, "verse"),), (0.5,), (0.5,), 120.0, "C major")
            facts = (
                SeparationFacts(SAMPLES, True)
                if stage == "separation"
                else AugmentedFacts("pitch+1", SAMPLES, shape, ("calm",), ())
            )
            return Row(track_id, "ok", values=dump(facts), artefacts=kept, backend=f"{stage}-toy")
        if stage.startswith("tokenization"):
            tokens = token_count(SAMPLES)
            arrays = {
                "vocal": np.zeros((1, tokens), np.uint16),
                "accompaniment": np.ones((1, 1, tokens), np.uint16),
                "reference": np.zeros((1, 1, 4), np.float16),
                "text": np.zeros((1, 4), np.float16),
            }
            made = song_rows(QUIET, store.put_arrays(track_id, "tokens", arrays), track_id=track_id)["tokenization"]
            return made if stage == "tokenization" else replace(made, values=made.values.replace("orig", "pitch+1"))
        return song_rows(QUIET, track_id=track_id)[stage]


def build(context: Context, *stages: str, batch: int = 0) -> Counter[str]:
    """Run the stages over a batch; stage -> songs that were worked on."""
    engine = ToyEngine(context)
    for stage in stages or NODES:
        run_batch_with_stems(stage, context, batch, cast(Engine, engine), False, Silent())
    return engine.worked
