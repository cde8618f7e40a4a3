"""Publish a dataset: its manifest and its data card."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flows.artifacts import show_card
from flows.data_card import card
from flows.funnel import funnel
from flows.provenance import PROVENANCE, makers, to_json
from flows.recipe import DATASET_RECIPE
from flows.shards import config_hash, dataset_directory, tracks
from flows.stages.context import Context
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
    # On the CPU wherever this runs: one text, and its vector's last digits are in the manifest.
    conditioner = build_conditioner(context.recipe.conditioning.model_copy(update={"device": "cpu"}))
    empty_text = conditioner.text([""])[0]
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
    made_by = makers(counts, conditioner.spec)
    licences = Counter(track.licence for track, _ in tracks(context))
    files.replace(directory / PROVENANCE, to_json(made_by, licences).encode())
    text = card(context, counts, samples, made_by)
    files.replace(directory / "README.md", text.encode())
    show_card(text)
    return dataset


def required_splits(context: Context) -> list[str]:
    """The shard sets that this recipe trains, validates or tests on."""
    trained = [stage.split for stage in context.recipe.training.stages]
    held_out = [name for name in ("val", "test") if getattr(context.recipe.splits, f"min_{name}") > 0]
    return trained + held_out
