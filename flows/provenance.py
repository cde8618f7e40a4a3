"""Whose weights made a dataset or a model, and what their licences ask of whoever uses it: for both cards.

Conventions: ``provenance.json`` lies beside a dataset's manifest and holds what its data card says of backends and of
the songs' licences, for programs; it is made from the ledger alone, without dates.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from flows.tally import StageStatistics
from pipeline.assets.store import NON_COMMERCIAL
from pipeline.conditioning.conditioner import ConditionerSpec

PROVENANCE = "provenance.json"
CONDITIONING = "conditioning"  # counts as a stage of its own, as in the samples' records


@dataclass(frozen=True, slots=True)
class Maker:
    """One backend that had a part in it."""

    stage: str
    backend: str
    weights_sha256: str  # empty where it has none
    licence: str  # of the weights, with the fact that somebody accepted it where it asks for that
    songs: int = 0  # that it worked on; 0 = none, as of the parts of a model


@dataclass(frozen=True, slots=True)
class Provenance:
    """Of a dataset."""

    makers: tuple[Maker, ...]
    licences: Mapping[str, int]  # of the songs, as their manifest states it -> songs


def makers(counts: Sequence[StageStatistics], conditioner: ConditionerSpec | None = None) -> list[Maker]:
    """The backends of all stages, in the order of the build, then the conditioner's."""
    found = [
        Maker(count.stage, backend, weights, licence, songs)
        for count in counts
        for (backend, weights, licence), songs in sorted(count.backends.items())
    ]
    if conditioner is not None:
        songs = sum(maker.songs for maker in found if maker.stage == "tokenization")
        facts = (conditioner.name, conditioner.weights_sha256, conditioner.licence)
        found.append(Maker(CONDITIONING, *facts, songs))
    return found


def bound(made_by: Iterable[Maker], what: str = "set") -> list[str]:
    """What binds whoever uses it, where weights behind it allow no commercial use; nothing where all do."""
    terms = {maker.licence for maker in made_by if NON_COMMERCIAL in maker.licence}
    told = f"Weights that made this {what} allow no commercial use ({'; '.join(sorted(terms))})."
    return (
        [f"{told} Ask their owners before you earn money with it, or with a model that learnt from it."]
        if terms
        else []
    )


def to_json(made_by: Sequence[Maker], licences: Counter[str]) -> str:
    """The same facts, the same bytes."""
    tree = {"makers": [asdict(maker) for maker in made_by], "licences": dict(sorted(licences.items()))}
    return json.dumps(tree, indent=1, sort_keys=True) + "\n"


def from_json(text: str) -> Provenance:
    """Inverse of `to_json`."""
    tree = json.loads(text)
    return Provenance(tuple(Maker(**maker) for maker in tree["makers"]), tree["licences"])
