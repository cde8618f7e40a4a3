"""Evaluation: accompaniments for held-out voices, scored between floors and a ceiling, and one report page."""

import logging
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import ConfigDict, Field
from tqdm import tqdm

from flows.environment import show_our_logs
from flows.form import order
from flows.generate_request import sampler_of
from flows.held_out import held_out_items
from flows.recipe import Recipe, load_recipe
from flows.report import write_run_report
from model import checkpoint as checkpoints
from model.evaluation.measures import Judges, MusicnnEmbedder
from model.evaluation.nll import HeldOut, code_counts, held_out
from model.evaluation.results import Results
from model.evaluation.score import Progress, Subject, evaluate
from model.flow import FlowPredictor
from model.generate import Generator
from model.shards import ShardSamples
from pipeline.config import Config
from pipeline.detection.stage import build as build_detector
from pipeline.quality.stage import build as build_rater
from pipeline.records.schema import Sample
from pipeline.types import Audio

logger = logging.getLogger(__name__)


class EvaluateParameters(Config):
    """Which model, on which songs, and where the report goes."""

    model_config = ConfigDict(json_schema_extra=order())

    recipe: str = Field(
        default="demo", description="A shipped recipe (demo, paper, upstream) or the path of a YAML file"
    )
    checkpoint: str = Field(description="Folder of a training run, or of one checkpoint in it")
    dataset: str = Field(description="Folder of the built dataset whose held-out songs are used")
    out: str = Field(description="Folder for report.html, results.json and the generated audio")
    split: Literal["test", "val"] = Field(default="test", description="Which held-out songs")
    overrides: list[str] = Field(default=[], description="Settings laid over the recipe: section.key=value")


@flow(name="evaluate-model", persist_result=False, validate_parameters=True)
def evaluate_model(evaluation: EvaluateParameters) -> Path:
    """Generate for every held-out song, score, and write the report; its path."""
    show_our_logs()
    recipe = load_recipe(evaluation.recipe, evaluation.overrides)
    score(evaluation, recipe)
    report = write_run_report(
        Path(evaluation.out), Path(evaluation.dataset), Path(evaluation.checkpoint), evaluation.split
    )
    logger.info("report %s", report)
    return report


@task(name="score", persist_result=True, cache_policy=NO_CACHE)
def score(evaluation: EvaluateParameters, recipe: Recipe) -> str:
    """Generate and measure; ``results.json`` in the output folder is the result."""
    dataset, out = Path(evaluation.dataset), Path(evaluation.out)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = checkpoints.resolve(Path(evaluation.checkpoint))
    generator = Generator(folder, device=device)
    items = held_out_items(dataset, evaluation.split)
    samples = list(ShardSamples(dataset, evaluation.split))
    subject = Subject(
        generate=generator,
        sampler=sampler_of(generator.run, [text for text in evaluation.overrides if text.startswith("sampler.")]),
        checkpoint=str(folder),
        config_hash=sha256(generator.run.model_dump_json().encode()).hexdigest()[:12],
        device=device,
        loudness=generator.run.loudness,
    )
    with tqdm(total=len(items) + len(samples), desc="evaluate", unit="song", disable=None) as bar:

        def show(done: int, total: int, what: str) -> None:
            bar.set_postfix_str(what)
            bar.update(0 if done == 0 else 1)

        likelihood = _likelihood(generator, dataset, samples, recipe, show)
        found = evaluate(items, subject, judges(recipe, generator), recipe.evaluation, out, likelihood, show)
    publish(found)
    return str(out / "results.json")


def judges(recipe: Recipe, generator: Generator) -> Judges:
    """The tools that measure: the model's codec, the build's detector and rater, so that a score means the same."""
    detector, rater = build_detector(recipe.detection), build_rater(recipe.quality)

    def singing_share(audio: Audio) -> float:
        return detector(audio).singing

    return Judges(generator.codec, rater, singing_share, MusicnnEmbedder(), rater.backend)


def _likelihood(
    generator: Generator, dataset: Path, samples: list[Sample], recipe: Recipe, progress: Progress
) -> HeldOut | None:
    """Held-out nats per token, beside the unigram of the first stage's training tokens; None of a model of latents."""
    if isinstance(generator.network, FlowPredictor):
        logger.info("no held-out likelihood: model.kind flow has none")
        return None
    counts = code_counts(ShardSamples(dataset, generator.run.training.stages[0].split))
    return held_out(generator.network, samples, counts, recipe.evaluation.nll, recipe.evaluation.seed, progress)


def publish(found: Results) -> None:
    """The scores as a table in Prefect's UI."""
    rows = [
        {"score": s.label, "model": round(s.value, 4), "n": s.n, "ceiling": s.ceiling}
        | {floor.name: round(floor.value, 4) for floor in s.floors}
        for s in found.scores
    ]
    create_table_artifact(key="scores", table=rows, description="The model between its floors and the codec's ceiling")
