"""The card of a model: what it is, what it learnt from, whose weights it needs or learnt through, and their terms.

Written into the folder of a training run before its first step; the trainer lays it beside the weights it saves. Made
from the run's settings and the dataset's files alone, without dates, so the same run writes the same card.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from flows.provenance import PROVENANCE, Maker, Provenance, bound, from_json
from model.config import TrainRun
from model.shards import manifest_sha256
from pipeline.assets.store import Held

NOT_RECORDED = "The dataset is of an older Backline and keeps no list of its backends: see its own README.md."


def trained_card(run: TrainRun, name: str, dataset: Path) -> str:
    """Of a model that learns from a dataset."""
    path = dataset / PROVENANCE
    known = from_json(path.read_text(encoding="utf-8")) if path.exists() else Provenance((), {})
    origin = f"Trained by Backline on the dataset `{dataset.name}` (manifest {manifest_sha256(dataset)[:16]})."
    limits = [] if path.exists() else [NOT_RECORDED]
    return _card(run, name, origin, known.makers, known.licences, limits)


def published_card(run: TrainRun, weights: Held, beside: Sequence[Maker]) -> str:
    """Of a model whose weights others published; `beside` are the systems that it plays with."""
    origin = f"{weights.asset.what}, from {weights.asset.origin}; converted by Backline, nothing was trained."
    own = Maker("model", weights.asset.name, weights.weights_sha256, weights.licence)
    doubts = [f"{weights.asset.name}: {weights.asset.doubt}."] if weights.asset.doubt else []
    return _card(run, weights.asset.name, origin, (own, *beside), {}, doubts)


def _card(
    run: TrainRun, name: str, origin: str, made_by: Sequence[Maker], licences: Mapping[str, int], limits: list[str]
) -> str:
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # Markdown
    template = files("flows").joinpath("model_card.md.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        name=name,
        origin=origin,
        model=run.model,
        stages=run.training.stages,
        codec=run.codec.backend,
        conditioner=run.conditioning.backend,
        made_by=made_by,
        licences=licences,
        limits=[*bound(made_by, "model"), *limits],
    )
