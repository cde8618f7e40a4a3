"""A catalog in memory: its tracks, the places that held them, and how its files are written.

Conventions: a URI belongs to the track it held last. A row without bytes (``sha256`` empty) stands for a place that
could not be read, and for no song: it is gone once its place was read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any

import pyarrow as pa

from pipeline.records import parquet
from pipeline.records.files import Place
from pipeline.records.tombstones import FORGOTTEN

_STRINGS = (
    "track_id",
    "sha256",
    "split",
    "artist",
    "text",
    "licence",
    "vocal_uri",
    "accompaniment_uri",
    "vocal_sha256",
    "accompaniment_sha256",
    "error",
    "message",
)
_LATER = ("vocal_sha256", "accompaniment_sha256")  # columns that parts of older versions lack
PART_SCHEMA = pa.schema(
    [(name, pa.string()) for name in _STRINGS]
    + [("bytes", pa.int64()), ("duration", pa.float64()), ("sample_rate", pa.int32()), ("channels", pa.int32())]
    + [("uris", pa.list_(pa.string())), ("stamps", pa.list_(pa.string()))]
)
ALIAS_SCHEMA = pa.schema([(name, pa.string()) for name in ("track_id", "uri", "stamp")])


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One track: bytes that some library named, and those of its true stems where it names any."""

    track_id: str  # `track_id_of` its bytes; first 32 hex digits of the sha256 of its URI where no byte could be read
    uris: tuple[str, ...]  # every place that holds these bytes; at least one
    sha256: str  # of the song's bytes; empty where none could be read
    bytes: int
    duration: float  # s, by the header; 0 with an error
    sample_rate: int  # Hz, by the header; 0 with an error
    channels: int
    split: str  # as the library says: train, val, test or empty
    artist: str
    text: str
    licence: str
    vocal_uri: str  # true stems; empty where there are none
    accompaniment_uri: str
    error: str  # slug; empty if the song can be worked on
    message: str = ""  # for people: what the error is
    vocal_sha256: str = ""  # of the true stems; empty where there are none, and in roots that did not look
    accompaniment_sha256: str = ""
    # of `uris`, one each, as of the last visit (visits.stamps; empty = can't tell); () = never looked at
    stamps: tuple[str, ...] = field(default=(), compare=False)

    @property
    def uri(self) -> str:
        return self.uris[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: a row goes to a worker with every song, and what `dataclass` writes for slots is slow."""
        return CatalogRow, _cells(self)


_cells = attrgetter(*(item.name for item in fields(CatalogRow)))


@dataclass(frozen=True, slots=True)
class Claim:
    """That a URI held a track; `stamp` tells cheaply whether it still does (empty: can't tell)."""

    track_id: str
    uri: str
    stamp: str


Pending = dict[str, tuple[CatalogRow, list[Claim]]]
File = tuple[str, str]  # name, version (another root may come to lie where one was removed)


@dataclass(slots=True)
class Index:
    """The catalog in memory."""

    files: tuple[File, ...] = ()  # it was read from
    rows: dict[str, CatalogRow] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)
    uris: dict[str, list[str]] = field(default_factory=dict)  # track id -> all places it was ever seen
    owner: dict[str, str] = field(default_factory=dict)  # uri -> track id
    stamps: dict[str, str] = field(default_factory=dict)  # uri -> stamp
    holders: dict[str, str] = field(default_factory=dict)  # sha256 of a song's bytes -> the first track of them
    forgotten: dict[str, str] = field(default_factory=dict)  # track id -> why
    barred: dict[str, str] = field(default_factory=dict)  # sha256 (or its first 32 digits) of forgotten bytes -> track

    def claim(self, claim: Claim) -> None:
        self.owner[claim.uri], self.stamps[claim.uri] = claim.track_id, claim.stamp
        seen = self.uris.setdefault(claim.track_id, [])
        if claim.uri not in seen:
            seen.append(claim.uri)

    def tracks(self, batch: int) -> list[CatalogRow]:
        """Those of a batch that stand for something."""
        return [self.row(track_id) for track_id in self.batches[batch] if self.stands(track_id)]

    def stands(self, track_id: str) -> bool:
        """False for the row of a place that could not be read once, and was since."""
        return bool(self.rows[track_id].sha256) or any(self.owner[uri] == track_id for uri in self.uris[track_id])

    def row(self, track_id: str) -> CatalogRow:
        """A track with its present places; one whose every place now holds other bytes keeps them and gets an error."""
        row, ever = self.rows[track_id], self.uris[track_id]
        now = tuple(uri for uri in ever if self.owner[uri] == track_id)
        if now or row.error:
            places = now or tuple(ever)
            stamps = tuple([self.stamps[uri] for uri in places])
            return row if (places, stamps) == (row.uris, row.stamps) else replace(row, uris=places, stamps=stamps)
        return replace(row, uris=tuple(ever), error="replaced", message=self._fate(row, ever[0]))

    def _fate(self, row: CatalogRow, uri: str) -> str:
        heir = self.owner[uri]
        if heir in self.rows and self.rows[heir].sha256 == row.sha256:
            return f"{uri} now has other true stems (track {heir}); those of this one are gone"
        return f"{uri} now holds other bytes (track {heir}); these are gone"

    def read(self, path: Place) -> None:
        """Take in one more file."""
        rows = parquet.read(path).to_pylist()
        if path.name.startswith("alias"):
            for row in rows:
                self.claim(Claim(**row))
            return
        self.batches.append([row["track_id"] for row in rows if row["error"] != FORGOTTEN])
        for row in rows:
            self._take(row)

    def _take(self, row: dict[str, Any]) -> None:
        stamps = row.pop("stamps")
        stems = {name: row.get(name) or "" for name in _LATER}
        track = CatalogRow(**(row | stems | {"uris": tuple(row["uris"]), "stamps": tuple(stamps)}))
        if track.error == FORGOTTEN:
            self.forgotten[track.track_id] = track.message
            self.barred[track.sha256 or track.track_id] = track.track_id
        else:
            self.rows[track.track_id] = track
            if track.sha256:
                self.holders.setdefault(track.sha256, track.track_id)
        for uri, at_visit in zip(track.uris, stamps, strict=True):
            self.claim(Claim(track.track_id, uri, at_visit))

    def forgotten_of(self, sha256: str) -> str | None:
        """The forgotten track of these bytes, whatever stems it had; None where there is none."""
        return self.barred.get(sha256, self.barred.get(sha256[:32]))


def encode_part(entries: Iterable[tuple[CatalogRow, list[Claim]]]) -> bytes:
    rows = []
    for row, claims in entries:
        places = {claim.uri: claim.stamp for claim in claims}
        plain = {item.name: getattr(row, item.name) for item in fields(row)}
        rows.append(plain | {"uris": list(places), "stamps": list(places.values())})
    return parquet.encode(pa.Table.from_pylist(rows, schema=PART_SCHEMA))


def encode_aliases(claims: Iterable[Claim]) -> bytes:
    rows: list[Mapping[str, str]] = [{name: getattr(claim, name) for name in ALIAS_SCHEMA.names} for claim in claims]
    return parquet.encode(pa.Table.from_pylist(rows, schema=ALIAS_SCHEMA))
