"""The true stems of a dataset's held-out songs: the build that made the dataset kept them."""

from functools import partial
from pathlib import Path

from flows.stages.context import artefact
from model.evaluation.score import Item
from model.shards import ShardSamples
from pipeline.errors import BadInput
from pipeline.records.ledger import Ledger
from pipeline.records.sharding import read_manifest
from pipeline.records.store import Store


def root_of(dataset: Path) -> Path:
    """The root of the build that a dataset belongs to: ``<root>/datasets/<name>``."""
    root = dataset.absolute().parent.parent
    if not (root / "stages").is_dir():
        raise BadInput(
            f"{dataset} does not lie in the root of a build; evaluation needs its stems, so give ROOT/datasets/NAME"
        )
    return root


def held_out_items(dataset: Path, split: str) -> list[Item]:
    """One item per held-out song: dry vocal, true accompaniment, first caption.

    Its loaders raise `DamageError` where a stem is not the one that the ledger recorded.
    """
    key = read_manifest(dataset).stages["separation"]
    ledger = Ledger(root_of(dataset))
    store, rows = Store(ledger.directory("separation", key)), ledger.all_rows("separation", key)
    items = []
    for sample in ShardSamples(dataset, split):
        row = rows[sample.info.track_id]
        if not row.artefacts:
            raise BadInput(
                f"the stems of {sample.info.key} were not kept (build.keep_stems: none); build again with "
                "until_tokenized and --stages separation --force"
            )
        vocal, accompaniment = (artefact(row, name) for name in ("vocal", "accompaniment"))
        loaders = (partial(store.get_audio, vocal), partial(store.get_audio, accompaniment))
        paths = (store.path(vocal), store.path(accompaniment))
        items.append(Item(sample.info.key, *paths, sample.info.captions[0], *loaders))
    return items
