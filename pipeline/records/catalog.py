"""Files and URLs -> tracks named by the hash of their bytes, in batches that never change.

Conventions: ``<root>/catalog/part-<batch>.parquet`` holds a batch's tracks; ``alias-<parts>-<number>.parquet`` says
which track a URI held when that many parts existed (another place of known bytes, or a place whose bytes changed).
Both are create-if-absent and never rewritten, but for `forget`. A URI belongs to the track it held last.
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from pipeline.audio import Probe
from pipeline.audio import probe as probe_header
from pipeline.errors import BadInput
from pipeline.records import files, parquet
from pipeline.records.content import Content, client_errors, read_content, stamp
from pipeline.records.files import DamageError, Place
from pipeline.records.folder import Folder
from pipeline.records.library import Source
from pipeline.records.tombstones import FORGOTTEN, without

logger = logging.getLogger(__name__)

BATCH_SIZE = 256  # tracks; one Prefect task and one shard (notes on the control plane: 64-1024 songs a task)
_LISTINGS = 3  # tries before a gap counts as damage
_NAME = re.compile(r"(?P<kind>alias|part)-(?P<number>\d{5,})(?:-(?P<turn>\d{5,}))?\.parquet")
_STRINGS = (
    "track_id",
    "sha256",
    "split",
    "artist",
    "text",
    "licence",
    "vocal_uri",
    "accompaniment_uri",
    "error",
    "message",
)
PART_SCHEMA = pa.schema(
    [(name, pa.string()) for name in _STRINGS]
    + [("bytes", pa.int64()), ("duration", pa.float64()), ("sample_rate", pa.int32()), ("channels", pa.int32())]
    + [("uris", pa.list_(pa.string())), ("stamps", pa.list_(pa.string()))]
)
_ALIAS_SCHEMA = pa.schema([(name, pa.string()) for name in ("track_id", "uri", "stamp")])


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """One track: bytes that some library named."""

    track_id: str  # first 32 hex digits of the bytes' sha256; of the URI's where no byte could be read
    uris: tuple[str, ...]  # every place that holds these bytes; at least one
    sha256: str  # empty where no byte could be read
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
    # of `uris`, one each, as of the last visit (content.stamp; empty = can't tell); () = never looked at
    stamps: tuple[str, ...] = field(default=(), compare=False)

    @property
    def uri(self) -> str:
        return self.uris[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: a row goes to a worker with every song, and what `dataclass` writes for slots is slow."""
        return CatalogRow, _cells(self)


_cells = attrgetter(*(item.name for item in fields(CatalogRow)))


@dataclass(frozen=True, slots=True)
class _Claim:
    """That a URI held a track; `stamp` tells cheaply whether it still does (empty: can't tell)."""

    track_id: str
    uri: str
    stamp: str


_Pending = dict[str, tuple[CatalogRow, list[_Claim]]]
_File = tuple[str, str]  # name, version (another root may come to lie where one was removed)


@dataclass(slots=True)
class _Index:
    """The catalog in memory."""

    files: tuple["_File", ...] = ()  # it was read from
    rows: dict[str, CatalogRow] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)
    uris: dict[str, list[str]] = field(default_factory=dict)  # track id -> all places it was ever seen
    owner: dict[str, str] = field(default_factory=dict)  # uri -> track id
    stamps: dict[str, str] = field(default_factory=dict)  # uri -> stamp
    forgotten: dict[str, str] = field(default_factory=dict)  # track id -> why

    def claim(self, claim: _Claim) -> None:
        self.owner[claim.uri], self.stamps[claim.uri] = claim.track_id, claim.stamp
        seen = self.uris.setdefault(claim.track_id, [])
        if claim.uri not in seen:
            seen.append(claim.uri)

    def row(self, track_id: str) -> CatalogRow:
        """A track with its present places; one whose every place now holds other bytes keeps them and gets an error."""
        row, ever = self.rows[track_id], self.uris[track_id]
        now = tuple(uri for uri in ever if self.owner[uri] == track_id)
        if now or row.error:
            places = now or tuple(ever)
            stamps = tuple([self.stamps[uri] for uri in places])
            return row if (places, stamps) == (row.uris, row.stamps) else replace(row, uris=places, stamps=stamps)
        message = f"{ever[0]} now holds other bytes (track {self.owner[ever[0]]}); these are gone"
        return replace(row, uris=tuple(ever), error="replaced", message=message)


class Catalog:
    """The tracks of one root, append-only."""

    def __init__(
        self,
        root: Place,
        probe: Callable[[str], Probe] = probe_header,
        content: Callable[[str], Content] = read_content,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = root / "catalog"
        self._folder = Folder(self.directory, clock)
        self.probe, self.content = probe, content
        self._cache = _Index()
        self._whole = False  # whether the cache holds all of the folder's last listing
        self._reading = Lock()  # batches side by side look at one catalog

    def add(
        self,
        sources: Iterable[Source],
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[int]:
        """Catalogue new songs; the numbers of the new batches.

        A known track is neither moved nor edited, and the first mention of new bytes says their split, artist and
        text. Files whose size and times are those of the last visit aren't read again. A song that can't be read gets a
        row with an error. Killed and run again, it makes the same batches.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        wanted = list(sources)
        made: list[int] = []
        index = self._index()
        pending: _Pending = {}
        aliases: list[_Claim] = []
        for done, source in enumerate(wanted, start=1):
            self._visit(source, index, pending, aliases)
            if len(pending) == batch_size:
                made += self._commit(pending)
                index, pending = self._cache, {}
            if progress:
                progress(done, len(wanted))
        made += self._commit(pending)
        self._commit_aliases(aliases)
        logger.info(
            "catalog: %d songs named, %d new batches, %d new places of known songs",
            len(wanted),
            len(made),
            len(aliases),
        )
        return made

    def batches(self) -> list[int]:
        return list(range(len(self._index().batches)))

    def read(self, batch: int) -> list[CatalogRow]:
        """The tracks of a batch, in the order in which they were added.

        Asked for every batch and stage: the folder is listed again only where something in it may have changed.
        """
        index = self._index(again=False)
        if not 0 <= batch < len(index.batches):
            index = self._index()
        if not 0 <= batch < len(index.batches):
            raise ValueError(f"batch {batch}: the catalog in {self.directory} has {len(index.batches)} batches, from 0")
        return [index.row(track_id) for track_id in index.batches[batch]]

    def rows(self) -> list[CatalogRow]:
        """All tracks, batch after batch, by one look."""
        index = self._index()
        return [index.row(track_id) for batch in index.batches for track_id in batch]

    def batch_of(self, track_id: str) -> int:
        """The batch that holds a track; `ValueError` if none does."""
        for number, tracks in enumerate(self._index().batches):
            if track_id in tracks:
                return number
        raise ValueError(f"track {track_id} is not in the catalog {self.directory}")

    def find(self, text: str) -> list[CatalogRow]:
        """Tracks by id or the start of one (4 digits at least), by URI or its last part, or by the bytes of a file."""
        index = self._index()
        places = {text, os.path.abspath(os.path.expanduser(text))}
        found = {index.owner[uri] for uri in places if uri in index.owner}
        if re.fullmatch(r"[0-9a-f]{4,32}", text):
            found |= {track_id for track_id in index.rows if track_id.startswith(text)}
        if not found and os.path.isfile(os.path.expanduser(text)):
            found = {files.digest(Path(text).expanduser())[0][:32]} & index.rows.keys()
        if not found:
            found = {owner for uri, owner in index.owner.items() if uri.rpartition("/")[2] == text}
        return [index.row(track_id) for track_id in sorted(found & index.rows.keys())]

    def forgotten(self) -> dict[str, str]:
        """Track id -> why it was forgotten."""
        return dict(self._index().forgotten)

    def forget(self, track_id: str, reason: str) -> int:
        """Blank a track's row and drop its places, so that it is never taken in again; the batch that held it.

        The blank row stays as a tombstone. The first reason holds. `ValueError` where no batch held the track.
        """
        index = self._index()
        others = {uri for other, uris in index.uris.items() if other != track_id for uri in uris}
        held = -1
        for name, _ in self._files():
            path = self.directory / name
            rows = parquet.read(path).to_pylist()
            kept = without(rows, track_id, reason, others)
            is_part = name.startswith("part")
            if is_part and any(row["track_id"] == track_id for row in rows):
                held = int(name.removeprefix("part-").removesuffix(".parquet"))
            if kept != rows:
                schema = PART_SCHEMA if is_part else _ALIAS_SCHEMA
                files.replace(path, parquet.encode(pa.Table.from_pylist(kept, schema=schema)))
        if held < 0:
            raise ValueError(f"track {track_id} was never in the catalog {self.directory}")
        return held

    def _visit(self, source: Source, index: _Index, pending: _Pending, aliases: list[_Claim]) -> None:
        now = stamp(source.uri)
        known = index.owner.get(source.uri)
        if known and now and index.stamps[source.uri] == now:
            if known in index.rows:
                self._warn_of_edit(source, index.rows[known])
            return
        row = _describe(source, self.content(source.uri))
        if row.track_id in index.forgotten:
            logger.info("catalog: %s was forgotten (%s), not taken", source.uri, index.forgotten[row.track_id])
            if known and known != row.track_id:  # its place held another song
                aliases.append(_Claim(row.track_id, source.uri, now))
            return
        if row.sha256 and row.track_id not in index.rows and row.track_id not in pending:
            row = self._probed(source, row)
        if known in index.rows and not row.sha256 and not index.rows[known].error:
            return  # gone for now: the track it held stays
        claim = _Claim(row.track_id, source.uri, now if row.sha256 else "")  # what wasn't read is read again
        if row.track_id in index.rows:
            self._warn_of_edit(source, index.rows[row.track_id])
            if known != row.track_id or index.stamps[source.uri] != claim.stamp:
                aliases.append(claim)
        elif row.track_id in pending:
            pending[row.track_id][1].append(claim)
        else:
            pending[row.track_id] = (row, [claim])

    def _probed(self, source: Source, row: CatalogRow) -> CatalogRow:
        """The row with its header's facts; as if never read where its client fails now, since rows stay for good."""
        try:
            with client_errors(row.uri):
                header = self.probe(row.uri)
        except BadInput as error:
            return replace(row, error=error.reason, message=str(error))
        except OSError as error:
            message = f"{row.uri} can't be read: {error}; mend it or take it out of the library"
            return _describe(source, Content(error="unreadable", message=message))
        return replace(row, duration=header.duration, sample_rate=header.sample_rate, channels=header.channels)

    def _warn_of_edit(self, source: Source, row: CatalogRow) -> None:
        """What a library says of a known track must be what it said first, or be empty."""
        said = {"split": source.split, "artist": source.artist, "text": source.text, "licence": source.licence}
        said |= {"vocal_uri": source.vocal, "accompaniment_uri": source.accompaniment}
        changed = {name: value for name, value in said.items() if value and value != getattr(row, name)}
        if changed:
            message = "%s is catalogued already; its new %s is not taken: take another root to have it otherwise"
            logger.warning(message, source.uri, changed)

    def _commit(self, pending: _Pending) -> list[int]:
        """Write what is pending as the next batch; what another writer catalogued meanwhile becomes aliases.

        The folder is listed only where another writer took the number: a listing for every batch is quadratic.
        """
        index = self._cache
        while pending:
            number, known = len(index.batches), index.rows.keys() & pending.keys()
            self._commit_aliases([claim for track_id in sorted(known) for claim in pending[track_id][1]])
            pending = {track_id: entry for track_id, entry in pending.items() if track_id not in known}
            path = self.directory / f"part-{number:05d}.parquet"
            if pending and files.create(path, _encode_part(pending.values())):
                self._take(path, number)
                return [number]
            index = self._index()
        return []

    def _take(self, path: Place, number: int) -> None:
        """Hold a part of our own as if the folder had been listed."""
        with self._reading:
            if len(self._cache.batches) == number:  # else another thread has listed it
                _read_into(self._cache, path)
                self._cache.files += ((path.name, files.version(path)),)

    def _commit_aliases(self, claims: list[_Claim]) -> None:
        if not claims:
            return
        table = pa.table(
            {name: [getattr(claim, name) for claim in claims] for name in _ALIAS_SCHEMA.names}, schema=_ALIAS_SCHEMA
        )
        stem, turn = f"alias-{len(self._index().batches):05d}", 0
        while not files.create(self.directory / f"{stem}-{turn:05d}.parquet", parquet.encode(table)):
            turn += 1

    def _index(self, again: bool = True) -> _Index:
        """The catalog as it is on disk now; only files that came since the last look are read.

        `again`: list the folder, whatever its time of change says.
        """
        with self._reading:
            if not again and self._whole and self._folder.still():
                return self._cache
            self._whole = False  # until every file of the listing is read, whatever ends that
            found = self._files()
            if found[: len(self._cache.files)] != self._cache.files:
                self._cache = _Index()
            for file in found[len(self._cache.files) :]:
                _read_into(self._cache, self.directory / file[0])
                self._cache.files += (file,)
            self._whole = True
            return self._cache

    def _files(self) -> tuple[_File, ...]:
        """The catalog's files in the order of their claims; a listing made while another writer adds may lack one."""
        for _ in range(_LISTINGS):
            versions = {entry.name: entry.version for entry in self._folder.entries()}
            found = [match for name in versions if (match := _NAME.fullmatch(name))]
            found.sort(key=lambda match: (int(match["number"]), match["kind"], int(match["turn"] or 0)))
            parts = [int(match["number"]) for match in found if match["kind"] == "part"]
            if parts == list(range(len(parts))):
                return tuple((match[0], versions[match[0]]) for match in found)
        lost = min(set(range(len(parts))) - set(parts))
        raise DamageError(f"{self.directory}/part-{lost:05d}.parquet is missing; restore it, its songs are unknown")


def _read_into(index: _Index, path: Place) -> None:
    rows = parquet.read(path).to_pylist()
    if path.name.startswith("alias"):
        for row in rows:
            index.claim(_Claim(**row))
        return
    index.batches.append([row["track_id"] for row in rows if row["error"] != FORGOTTEN])
    for row in rows:
        stamps = row.pop("stamps")
        track = CatalogRow(**(row | {"uris": tuple(row["uris"]), "stamps": tuple(stamps)}))
        if track.error == FORGOTTEN:
            index.forgotten[track.track_id] = track.message
        else:
            index.rows[track.track_id] = track
        for uri, at_visit in zip(track.uris, stamps, strict=True):
            index.claim(_Claim(track.track_id, uri, at_visit))


def _encode_part(entries: Iterable[tuple[CatalogRow, list[_Claim]]]) -> bytes:
    rows = []
    for row, claims in entries:
        places = {claim.uri: claim.stamp for claim in claims}
        plain = {item.name: getattr(row, item.name) for item in fields(row)}
        rows.append(plain | {"uris": list(places), "stamps": list(places.values())})
    return parquet.encode(pa.Table.from_pylist(rows, schema=PART_SCHEMA))


def _describe(source: Source, content: Content) -> CatalogRow:
    track_id = (content.sha256 or hashlib.sha256(source.uri.encode()).hexdigest())[:32]
    return CatalogRow(
        track_id=track_id, uris=(source.uri,), sha256=content.sha256, bytes=content.bytes,
        duration=0.0, sample_rate=0, channels=0,
        split=source.split, artist=source.artist, text=source.text, licence=source.licence,
        vocal_uri=source.vocal, accompaniment_uri=source.accompaniment, error=content.error, message=content.message,
    )  # fmt: skip
