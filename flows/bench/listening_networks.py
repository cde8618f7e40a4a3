"""The networks of the listening experiment: one with its own vocals, and twins with vocals paired at random.

All start from the same weights and meet the same accompaniments under the same masks in the same order
(`listening_pairs`). Two twins differ in their pairs alone: what lies between them is what another training would give.
"""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path

from flows.bench.listening_arms import TRUE, TWIN, TWIN_AGAIN, Held
from flows.bench.listening_pairs import Pair, random_pairs, true_pairs, write_dataset
from flows.bench.listening_songs import Progress, Source, processes
from model import checkpoint
from model.config import TrainRun
from model.journal import METRICS
from model.network import MaskPredictor
from model.train import train
from pipeline.errors import PipelineError
from pipeline.records.schema import CodecRecord

MODEL = "model"
NETWORKS: Mapping[Source, tuple[str, ...]] = {  # what training's noise is, one source tells
    "dry": (MODEL, TWIN, TWIN_AGAIN),
    "separated": (MODEL, TWIN),
}
VALIDATED = 8  # held-out songs that a run's curve shows
POLL_SECONDS = 2.0


class ListeningStoppedError(PipelineError):
    """Training was told to stop; the same command goes on."""


@dataclass(frozen=True, slots=True)
class Material:
    """What is trained on and what is scored."""

    train: tuple[Pair, ...]
    held: tuple[Held, ...]
    codec: CodecRecord


@dataclass(frozen=True, slots=True)
class Training:
    """One network to be."""

    recipe: TrainRun
    dataset: Path
    out: Path

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.recipe.training.stages)

    def done(self) -> int:
        """Steps that its journal tells of, up to the last whole line: somebody may be writing it."""
        path = self.out / METRICS
        lines = path.read_text("utf-8").rpartition("\n")[0].splitlines() if path.exists() else []
        return int(json.loads(lines[-1])["step"]) if lines else 0


def trainings(folder: Path, source: Source, material: Material, recipe: TrainRun, seed: int) -> Iterator[Training]:
    """Those of one source of stems, their datasets written."""
    first = [Pair(song.name, song.vocals[TRUE], song.accompaniment) for song in material.held[:VALIDATED]]
    for number, name in enumerate(NETWORKS[source]):
        pairs = true_pairs(material.train) if name == MODEL else random_pairs(material.train, seed + number)
        dataset = write_dataset(folder / f"data-{name}", pairs, first, material.codec, f"listening-{name}")
        yield Training(recipe, dataset, folder / name)


def train_all(todo: Sequence[Training], workers: int, show: Progress) -> None:
    """Every one to its end, in as many processes; with several, each writes `train.log` beside its run.

    `ListeningStoppedError` where one was stopped.
    """
    if workers <= 1:
        for one in todo:
            _train(one)
        return
    with processes(workers) as pool:
        waiting: set[Future[None]] = {pool.submit(_train_quietly, one) for one in todo}
        while waiting:
            done, waiting = wait(waiting, timeout=POLL_SECONDS)
            for future in done:
                future.result()
            show("train", sum(one.done() for one in todo), sum(one.steps for one in todo))


def load(run: Path) -> MaskPredictor:
    """The network that was trained there."""
    found = checkpoint.load(run)
    network = MaskPredictor(found.run.model, rtd=found.run.training.objective.rtd.weight > 0)
    network.load_state_dict(found.weights())
    return network


def _train(one: Training) -> None:
    outcome = train(one.recipe, one.dataset, one.out)
    if not outcome.finished:
        raise ListeningStoppedError(
            f"{one.out} was stopped after step {outcome.step} and saved; the same command goes on"
        )


def _train_quietly(one: Training) -> None:
    one.out.mkdir(parents=True, exist_ok=True)
    path = one.out / "train.log"
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    with path.open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):  # no bars of several at once
        _train(one)
