"""Publish a dataset: its manifest, its data card, and the tables a person sees in the UI."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from flows.data_card import card
from flows.funnel import funnel
from flows.recipe import DATASET_RECIPE
from flows.report import funnel_stage
from flows.shards import config_hash, dataset_directory
from flows.stages.context import Context
from flows.tally import StageStatistics
from model.evaluation.plots import funnel_chart
from pipeline.conditioning.conditioner import build as build_conditioner
from pipeline.records import files
from pipeline.records.files import Place
from pipeline.records.sharding import Sidecar, history, remove_unlisted, require_splits, write_manifest


@dataclass(frozen=True, slots=True)
class Dataset:
    """A published dataset."""

    directory: Place
    manifest_sha256: str
    samples: dict[str, int]  # shard set -> samples


def publish(context: Context, sidecars: Sequence[Sidecar]) -> Dataset:
    """List the committed shards in the manifest, write the card, and remove shards that no manifest lists any more.

    Raises `EmptySplitError` where a shard set that the recipe trains or tests on has no sample.
    """
    directory = dataset_directory(context.root, context.recipe.name)
    require_splits(sidecars, required_splits(context))
    samples: dict[str, int] = {}
    for sidecar in sidecars:
        samples[sidecar.split] = samples.get(sidecar.split, 0) + sidecar.samples
    empty_text = build_conditioner(context.recipe.conditioning).text([""])[0]
    write_manifest(
        directory,
        context.recipe.name,
        config_hash(context),
        sidecars,
        dict(context.keys),
        **({"history": told} if (told := history(directory)) else {}),
        empty_text=[round(float(x), 6) for x in empty_text],
    )
    files.replace(directory / DATASET_RECIPE, context.recipe.model_dump_json(indent=1).encode())
    remove_unlisted(directory)
    counts = funnel(context)
    dataset = Dataset(directory, files.digest(directory / "manifest.json")[0], samples)
    text = card(context, counts, samples)
    files.replace(directory / "README.md", text.encode())
    show(counts, text)
    return dataset


def required_splits(context: Context) -> list[str]:
    """The shard sets that this recipe trains, validates or tests on."""
    trained = [stage.split for stage in context.recipe.training.stages]
    held_out = [name for name in ("val", "test") if getattr(context.recipe.splits, f"min_{name}") > 0]
    return trained + held_out


def show(counts: Sequence[StageStatistics], text: str) -> None:
    """The funnel as a table and the data card as a page, in Prefect's UI."""
    rows = [
        {
            "stage": count.stage,
            "seen": count.seen,
            "ok": count.ok,
            "rejected": reasons(count.rejected),
            "quarantined": reasons(count.quarantined),
            "failed": reasons(count.failed),
            "seconds": round(count.seconds, 1),
        }
        for count in counts
    ]
    create_table_artifact(key="funnel", table=rows, description="Songs at every stage of the build")
    picture = b64encode(funnel_chart([funnel_stage(count) for count in counts]).encode()).decode()
    create_image_artifact(
        image_url=f"data:image/svg+xml;base64,{picture}", key="funnel-chart", description="Songs kept at every stage"
    )
    create_markdown_artifact(key="data-card", markdown=text, description="The data card of this dataset")


def reasons(counted: dict[str, int] | object) -> str:
    """``reason 3, other 1``"""
    items = counted.items() if isinstance(counted, dict) else ()
    return ", ".join(f"{reason} {songs}" for reason, songs in sorted(items, key=lambda item: -item[1]))
