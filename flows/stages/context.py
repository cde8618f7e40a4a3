"""What a stage's worker sees of the build: the recipe, the stage keys, and typed access to what earlier stages kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from flows.recipe import Recipe
from flows.stages.hearing import hear
from pipeline.phases import phase
from pipeline.records import files
from pipeline.records.catalog import CatalogRow
from pipeline.records.files import Place
from pipeline.records.groups import read_groups
from pipeline.records.ledger import Ledger, Row
from pipeline.records.splits import Split, SplitRule, read_splits, splits_path
from pipeline.records.store import Artefact, Store
from pipeline.records.values import dump, load
from pipeline.types import Audio

T = TypeVar("T")
Rows = Mapping[str, Row]  # stage name -> this track's row


@dataclass(frozen=True, slots=True)
class Source:
    """The backend behind a result: three facts that every record carries."""

    backend: str = ""
    weights_sha256: str = ""  # empty where the backend has no weights
    licence: str = ""  # of the weights; of the code or the recordings where there are none

    @classmethod
    def of(cls, stage: "HasBackend") -> Self:
        return cls(stage.backend, stage.weights_sha256, stage.licence)


class HasBackend(Protocol):
    """Any stage object with a model behind it."""

    backend: str
    weights_sha256: str
    licence: str


@dataclass(frozen=True, slots=True)
class Made:
    """What one stage made of one track; the engine turns it into a ledger row."""

    value: object  # a frozen dataclass
    source: Source
    rejected: str = ""  # the reason, empty = kept
    message: str = ""
    artefacts: tuple[Artefact, ...] = ()


class Worker(Protocol):
    """One stage with its model loaded, in one process."""

    def __call__(self, track: CatalogRow, rows: Rows) -> Made:
        """Work on one track; `BadInput` quarantines it, any other exception fails it."""


@runtime_checkable
class BatchWorker(Protocol):
    """A worker that also takes several songs at once. Its answers are those that it gives to each song alone."""

    def __call__(self, track: CatalogRow, rows: Rows) -> Made: ...

    def prepare(self, track: CatalogRow, rows: Rows) -> Any:
        """What one song needs of the machine, its audio above all; errors are that song's, as in `Worker`."""

    def together(self, prepared: Sequence[Any]) -> list[Made]:
        """Work on what `prepare` gave, one answer each; an error is told of halves until it is one song's."""


@dataclass(frozen=True, slots=True)
class Context:
    """The build as one worker sees it. Picklable."""

    root: Place
    recipe: Recipe
    keys: Mapping[str, str] = field(default_factory=dict)  # stage name -> stage key

    def audio(self, track: CatalogRow) -> Audio:
        """The track decoded at its own sample rate; `FileChangedError` where its file is another one by now."""
        with phase("decode"):
            return hear(track, self.recipe.library.decode)

    def split(self, track: CatalogRow) -> Split:
        """train, val or test: that of the song's group, else the manifest's word, else the rule of the first build."""
        if of_group := read_groups(self.root).split_of(track.track_id):
            return of_group
        path = splits_path(self.root)
        version = files.version(path) if isinstance(path, Path) else ""  # asking a server for every track would be slow
        return _split_rule(self.root, version).split_of(track)

    def left_out(self, track: CatalogRow) -> str:
        """Why the song is no part of the data set, whatever it sounds like: duplicate, split_conflict or empty."""
        member = read_groups(self.root).members.get(track.track_id)
        if member is None or member.conflict:
            return member.conflict if member else ""
        return "duplicate" if member.follows and self.recipe.selection.duplicates == "first" else ""

    def store(self, stage: str) -> Store:
        """Where that stage keeps its artefacts."""
        return Store(Ledger(self.root).directory(stage, self.keys[stage]))

    def kept_audio(self, stage: str, row: Row, name: str) -> Audio:
        """An audio artefact that `stage` kept for a track."""
        return self.store(stage).get_audio(artefact(row, name))


@lru_cache(maxsize=8)
def _split_rule(root: Place, version: str) -> SplitRule:
    """The rule that the root's first build fixed; that the recipe asks for no other is checked by cataloguing."""
    return read_splits(root)


def artefact(row: Row, name: str) -> Artefact:
    """The artefact of that name; `KeyError` names those there are."""
    for item in row.artefacts:
        if item.name == name:
            return item
    raise KeyError(f"track {row.track_id} has no artefact {name!r}, only {[a.name for a in row.artefacts]}")


def value_of(rows: Rows, stage: str, kind: type[T]) -> T:
    """The typed result of a stage that this track has passed."""
    return load(kind, rows[stage].values)


def to_row(track: CatalogRow, made: Made) -> Row:
    """The ledger row of a finished piece of work."""
    return Row(
        track_id=track.track_id,
        status="rejected" if made.rejected else "ok",
        reason=made.rejected,
        message=made.message,
        values=dump(made.value),
        artefacts=made.artefacts,
        backend=made.source.backend,
        weights_sha256=made.source.weights_sha256,
        licence=made.source.licence,
    )
