"""Which songs are held out: fixed at the first build, so that adding songs never moves one.

Conventions: a song's place ``u`` in [0, 1) is a hash of the seed and its artist (its track id where no artist is
known), so an artist's songs stay together; test is ``u < test_below``, val ``u < val_below``, train the rest. A split
that the song's manifest gives comes first.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import accumulate, groupby
from math import ceil
from typing import Literal

from pydantic import Field

from pipeline.config import Config
from pipeline.errors import PipelineError
from pipeline.records import files
from pipeline.records.catalog import CatalogRow
from pipeline.records.files import Place

Split = Literal["train", "val", "test"]
_GIVEN: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}


class SplitError(PipelineError):
    """The songs can't fill the splits, or a root's fixed splits are asked to change."""


class SplitConfig(Config):
    """How many songs are held out, of those in the catalog at the first build."""

    seed: int = 0
    val_fraction: float = Field(0.01, ge=0, lt=1)  # of the songs that no manifest places; ours
    test_fraction: float = Field(0.01, ge=0, lt=1)  # of the same; the paper holds out 1,000 of some 70,000
    min_val: int = Field(1, ge=0)  # songs; ours
    min_test: int = Field(1, ge=0)  # songs; ours


@dataclass(frozen=True, slots=True)
class SplitRule:
    """The thresholds on ``u``, and what they were chosen by."""

    seed: int
    test_below: float
    val_below: float
    asked: str  # JSON of the SplitConfig of the first build

    def split_of(self, row: CatalogRow) -> Split:
        """The split of a song, whenever it was added."""
        if given := _GIVEN.get(row.split):
            return given
        place = _place(self.seed, row)
        return "test" if place < self.test_below else "val" if place < self.val_below else "train"


def fix_splits(root: Place, config: SplitConfig, rows: Sequence[CatalogRow]) -> SplitRule:
    """The rule of this root: the first call chooses it on the usable songs in `rows` and keeps it for good.

    It lies in ``catalog/splits.json``. Each held-out split gets its fraction of the songs that no manifest places, or
    more where its minimum, less what manifests gave it, asks for more; an artist's songs move together, so it may get
    more still. `SplitError` where no song would be left to train on (nothing is written), and where the root's splits
    were fixed by another config.
    """
    path = splits_path(root)
    asked = config.model_dump_json()
    if not path.exists():
        files.create(path, f"{json.dumps(asdict(_choose(config, rows, asked)), indent=1)}\n".encode())
    rule = read_splits(root)
    if SplitConfig.model_validate_json(rule.asked) != config:
        raise SplitError(f"{path} was fixed with {rule.asked}, now asked: {asked}; go back to it, or take another root")
    return rule


def check_splits(root: Place, config: SplitConfig, rows: Sequence[CatalogRow]) -> None:
    """`SplitError` where `fix_splits` would raise it for these songs; nothing is written."""
    if splits_path(root).exists():
        fix_splits(root, config, rows)
    else:
        _choose(config, rows, "")


def read_splits(root: Place) -> SplitRule:
    """The rule that the root's first build fixed; `SplitError` before that."""
    path = splits_path(root)
    if not path.exists():
        raise SplitError(f"{path} is missing: no build has fixed this root's splits yet; run all stages of a build")
    return SplitRule(**json.loads(path.read_bytes()))


@lru_cache(maxsize=8)
def splits_path(root: Place) -> Place:
    return root / "catalog" / "splits.json"


def _choose(config: SplitConfig, rows: Sequence[CatalogRow], asked: str) -> SplitRule:
    songs = [row for row in rows if not row.error]
    free = sorted(_place(config.seed, row) for row in songs if not row.split)
    places = [(place, len(list(group))) for place, group in groupby(free)]
    given = {split: sum(row.split == split for row in songs) for split in _GIVEN}
    want_test = max(config.min_test - given["test"], ceil(config.test_fraction * len(free)))
    want_val = max(config.min_val - given["val"], ceil(config.val_fraction * len(free)))
    test = _groups_for(places, want_test)
    val = test + _groups_for(places[test:], want_val)
    if val > len(places) or (val == len(places) and not given["train"]):
        raise SplitError(
            f"{len(songs)} songs of {len(places)} artists can't give test {max(want_test, 0)}, val {max(want_val, 0)} "
            "and leave one to train on; add songs, ask for fewer, or take another root with a manifest that gives "
            "songs a split (here they are catalogued without one, for good)"
        )
    return SplitRule(config.seed, _border(places, test), _border(places, val), asked)


def _groups_for(places: list[tuple[float, int]], want: int) -> int:
    """How many of the first groups hold `want` songs; one more than there are if they can't."""
    held = accumulate((count for _, count in places), initial=0)
    return next((number for number, songs in enumerate(held) if songs >= want), len(places) + 1)


def _border(places: list[tuple[float, int]], count: int) -> float:
    """A threshold that the first `count` places lie under: halfway to the next one."""
    if count == 0:
        return 0.0
    after = places[count][0] if count < len(places) else 1.0
    return (places[count - 1][0] + after) / 2


def _place(seed: int, row: CatalogRow) -> float:
    """``u`` of a song, 53 bits of sha256."""
    identity = f"{seed}\nartist\n{row.artist}" if row.artist else f"{seed}\ntrack\n{row.track_id}"
    return (int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8]) >> 11) / 2**53
