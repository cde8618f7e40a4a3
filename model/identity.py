"""Whether a run's folder holds the very run that is asked for: the same settings, trained on the same data."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from model import checkpoint
from model.checkpoint import Checkpoint
from model.config import TrainRun
from pipeline.errors import BadInput

TOLD = 5  # differing settings that an error lists; ours


def check_folder(folder: Path, run: TrainRun, manifest_sha256: str) -> None:
    """`BadInput` (`other_run`, `other_data`) where the folder was begun, or finished, with other settings or data."""
    for path in (folder / checkpoint.FINAL, checkpoint.latest(folder)):
        if path is not None and checkpoint.complete(path):
            check(checkpoint.load(path), run, manifest_sha256)


def check(found: Checkpoint, run: TrainRun, manifest_sha256: str) -> None:
    """The same for one checkpoint; the message names what differs."""
    if found.run != run:
        raise BadInput(
            f"{found.path} was trained with other settings: {told(found.run, run)}; give the old recipe or a new --out",
            "other_run",
        )
    if found.progress.manifest_sha256 != manifest_sha256:
        raise BadInput(
            f"{found.path} was trained on another build of the dataset (manifest "
            f"{found.progress.manifest_sha256[:12]}, given {manifest_sha256[:12]}); give that dataset or a new --out",
            "other_data",
        )


def told(old: TrainRun, new: TrainRun) -> str:
    """The settings in which two runs differ: ``training.clip was 1.0, given 0.5``."""
    before, now = (dict(_leaves("", run.model_dump(mode="json"))) for run in (old, new))
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    shown = [f"{name} was {before.get(name, 'absent')}, given {now.get(name, 'absent')}" for name in names[:TOLD]]
    return ", ".join(shown) + (f" and {len(names) - TOLD} more" if len(names) > TOLD else "")


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    """Dotted names and values of everything that isn't a mapping or a list of mappings."""
    items: list[tuple[str, object]] = []
    if isinstance(value, Mapping):
        items = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        items = [(str(index), inner) for index, inner in enumerate(value)]
    if not items:
        yield path, value
    for key, inner in items:
        yield from _leaves(f"{path}.{key}" if path else key, inner)
