"""Groups of songs that are one recording in several files: who is in one, and which split it is in.

Conventions: ``<root>/catalog/groups-<run>.parquet`` is what one run of the grouping found, create-if-absent and never
rewritten but for `forget`; the newest row of a track counts. A group is known by its first song, the *leader*; a song
joins the group of the earliest leader that it is a copy of, so a group is a star and two groups never become one. The
other songs of a group are in the leader's split, whatever their artist's is. A song that is a copy of songs in several
splits, or whose manifest puts it in another one, is left out of the data set: nothing that is fixed can give way.
"""

import hashlib
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from pipeline.records import files, lookup, parquet
from pipeline.records.files import Place
from pipeline.records.lookup import Indexed
from pipeline.records.splits import Split
from pipeline.types import Seconds

logger = logging.getLogger(__name__)
_GROUPS = re.compile(r"groups-(?P<run>\d{5,})\.parquet")
_TOLD = b"backline"  # key of the file's own facts in its schema
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("track_id", "leader", "split", "conflict")]
    + [("batch", pa.int32()), ("errors", pa.float64()), ("seconds", pa.float64())]
)
Conflict = Literal["", "split_conflict"]


@dataclass(frozen=True, slots=True)
class Member:
    """What the grouping found of a song. Songs without a row are alone."""

    track_id: str
    batch: int
    leader: str  # track id; its own where it leads, empty where it had no fingerprint when its batch was grouped
    split: Split | Literal[""]  # of the group; empty for a song that is alone
    conflict: Conflict = ""
    errors: float = 0.0  # share of bits that differ from the leader's, 0..1
    seconds: Seconds = 0.0  # compared

    @property
    def follows(self) -> bool:
        """Whether an earlier song is the same recording."""
        return self.leader not in ("", self.track_id)


@dataclass(frozen=True, slots=True)
class Groups:
    """All that is known of a root's groups."""

    runs: int = 0
    covered: int = 0  # batches that are grouped: those below this number
    members: Mapping[str, Member] = field(default_factory=dict)  # track id -> its newest row
    indexes: tuple[str, ...] = ()  # index files, one per run

    def split_of(self, track_id: str) -> Split | None:
        """The split that a song's group gives it; None where the song is alone."""
        member = self.members.get(track_id)
        return member.split or None if member else None


def read_groups(root: Place) -> Groups:
    """The groups of a root as they are now, or were when `steady` began; none before the first grouping."""
    held = _STEADY.get()
    if held is not None and (held[0] is root or held[0] == root):
        return held[1]
    path = _folder(root)
    version = files.version(path) if isinstance(path, Path) else ""
    return _read(root, version)


@lru_cache(maxsize=8)  # asked for every song and stage: making the path cost more than asking the disk
def _folder(root: Place) -> Place:
    return root / "catalog"


@lru_cache(maxsize=8)
def _read(root: Place, version: str) -> Groups:
    """`version` is the folder's on a disk; asking an object store for every song would be slow, see `renew`."""
    names = sorted(entry.name for entry in files.entries(root / "catalog", "groups-") if _GROUPS.fullmatch(entry.name))
    members: dict[str, Member] = {}
    covered, indexes = 0, []
    for name in names:
        table = parquet.read(root / "catalog" / name)
        told = json.loads(table.schema.metadata[_TOLD])
        covered = max(covered, told["covered"])
        indexes.append(told["index"])
        members |= {row["track_id"]: Member(**row) for row in table.to_pylist()}
    return Groups(len(names), covered, members, tuple(indexes))


@contextmanager
def steady(root: Place) -> Iterator[None]:
    """Look at the groups of a root once for all that runs inside in this thread: judging the songs of a batch asks for
    them twenty times a song. For short looks; what runs inside must not change the groups.
    """
    token = _STEADY.set((root, read_groups(root)))
    try:
        yield
    finally:
        _STEADY.reset(token)


_STEADY: ContextVar[tuple[Place, Groups] | None] = ContextVar("steady", default=None)


def renew() -> None:
    """Read the groups anew at the next look: this process, or another one that it waited for, changed them."""
    _read.cache_clear()


def commit_groups(root: Place, run: int, covered: int, members: Sequence[Member], songs: Sequence[Indexed]) -> bool:
    """Keep what a run found; False, and nothing changed, where another one was first: read again and go on from there.

    The index goes first and is named by its content, the groups file is the commit.
    """
    data = lookup.encode(songs)
    index = f"index-{run:05d}-{hashlib.sha256(data).hexdigest()[:8]}.parquet"
    files.replace(root / "catalog" / index, data)
    told = json.dumps({"covered": covered, "index": index})
    first = files.create(root / "catalog" / f"groups-{run:05d}.parquet", _encode(members, told.encode()))
    renew()
    return first


def read_index(root: Place, groups: Groups) -> list[Indexed]:
    """Every leader and every song that is alone, in the order in which they were grouped."""
    return [song for name in groups.indexes for song in lookup.decode((root / "catalog" / name).read_bytes())]


def followers(groups: Groups, leader: str) -> list[Member]:
    """The other songs of a group, in the order in which they joined."""
    return [member for member in groups.members.values() if member.leader == leader and member.follows]


def forget_member(root: Place, track_id: str, successor: Indexed | None) -> None:
    """Take a song out of its group and out of the index; a leader's place is its `successor`'s, in the same split.

    `successor` is the first of the leader's `followers`, with its sketch, or None where there is none. Groups change
    last, so that a run that was killed finds the same successor again.
    """
    for entry in files.entries(root / "catalog", "index-"):
        path = root / "catalog" / entry.name
        songs = lookup.decode(path.read_bytes())
        if any(song.track_id == track_id for song in songs):
            told = [successor if song.track_id == track_id else song for song in songs]
            files.replace(path, lookup.encode([song for song in told if song]))
    for entry in files.entries(root / "catalog", "groups-"):
        path = root / "catalog" / entry.name
        table = parquet.read(path)
        rows = [Member(**row) for row in table.to_pylist()]
        kept = list(_without(rows, track_id, successor.track_id if successor else ""))
        if kept != rows:
            files.replace(path, _encode(kept, table.schema.metadata[_TOLD]))
    renew()


def _without(rows: Iterable[Member], track_id: str, successor: str) -> Iterable[Member]:
    for row in rows:
        if row.track_id != track_id:
            yield replace(row, leader=successor) if row.leader == track_id else row


def _encode(members: Collection[Member], told: bytes) -> bytes:
    rows: list[dict[str, Any]] = [asdict(member) for member in members]
    return parquet.encode(pa.Table.from_pylist(rows, schema=_SCHEMA.with_metadata({_TOLD: told})))
