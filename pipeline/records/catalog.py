"""Files and URLs -> tracks named by the hash of their bytes, in batches that never change.

Conventions: ``<root>/catalog/part-<batch>.parquet`` holds a batch's tracks; ``alias-<parts>-<number>.parquet`` says
which track a URI held when that many parts existed (another place of known bytes, or a place whose bytes changed).
Both are create-if-absent and never rewritten, but for `forget`. A URI belongs to the track it held last.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

import pyarrow as pa

from pipeline.audio import Probe
from pipeline.audio import probe as probe_header
from pipeline.records import files, parquet
from pipeline.records.content import Content, read_content
from pipeline.records.files import DamageError, Place
from pipeline.records.folder import Folder
from pipeline.records.library import Source
from pipeline.records.tombstones import without
from pipeline.records.tracks import (
    ALIAS_SCHEMA,
    PART_SCHEMA,
    CatalogRow,
    Claim,
    File,
    Index,
    Pending,
    encode_aliases,
    encode_part,
)
from pipeline.records.visits import Visits, check_absent

__all__ = ["BATCH_SIZE", "PART_SCHEMA", "Catalog", "CatalogRow"]

logger = logging.getLogger(__name__)

BATCH_SIZE = 256  # tracks; one Prefect task and one shard (notes on the control plane: 64-1024 songs a task)
_LISTINGS = 3  # tries before a gap counts as damage
_NAME = re.compile(r"(?P<kind>alias|part)-(?P<number>\d{5,})(?:-(?P<turn>\d{5,}))?\.parquet")


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
        self._cache = Index()
        self._whole = False  # whether the cache holds all of the folder's last listing
        self._reading = Lock()  # batches side by side look at one catalog

    def add(
        self,
        sources: Iterable[Source],
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
        absent_limit: float = 1.0,
    ) -> list[int]:
        """Catalogue new songs; the numbers of the new batches.

        A known track is neither moved nor edited, and the first mention of new bytes says their split, artist and
        text. Files whose size and times are those of the last visit aren't read again. A song that can't be read gets a
        row with an error, after all others, and is looked for again by every call: once it is read, that row is gone.
        `BadInput` where more than the share `absent_limit` of the named songs can't be and never was. Killed and run
        again, it makes the same batches.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        wanted = list(sources)
        made: list[int] = []
        visits = Visits(self._index(), self.probe, self.content)
        visits.check_disks(wanted, absent_limit)
        for done, source in enumerate(wanted, start=1):
            visits.visit(source)
            made += self._commit_full(visits, batch_size)
            if progress:
                progress(done, len(wanted))
        check_absent(visits.absent, len(wanted), absent_limit)
        for track_id, entry in visits.unread.items():
            visits.pending[track_id] = entry
            made += self._commit_full(visits, batch_size)
        made += self._commit(visits.pending)
        self._commit_aliases(visits.aliases)
        logger.info(
            "catalog: %d songs named, %d new batches, %d new places of known songs",
            len(wanted), len(made), len(visits.aliases),
        )  # fmt: skip
        if visits.absent:
            logger.warning(
                "catalog: songs that can't be read: %d; every build looks for them again; the first: %s",
                len(visits.absent), visits.absent[0],
            )  # fmt: skip
        return made

    def _commit_full(self, visits: Visits, batch_size: int) -> list[int]:
        """What is pending, where it fills a batch."""
        if len(visits.pending) < batch_size:
            return []
        made = self._commit(visits.pending)
        visits.go_on(self._cache)
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
        return index.tracks(batch)

    def rows(self) -> list[CatalogRow]:
        """All tracks, batch after batch, by one look."""
        index = self._index()
        return [row for batch in range(len(index.batches)) for row in index.tracks(batch)]

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
            held = files.digest(Path(text).expanduser())[0]
            found = {track_id for track_id, row in index.rows.items() if row.sha256 == held}
        if not found:
            found = {owner for uri, owner in index.owner.items() if uri.rpartition("/")[2] == text}
        return [index.row(track_id) for track_id in sorted(found & index.rows.keys()) if index.stands(track_id)]

    def forgotten(self) -> dict[str, str]:
        """Track id -> why it was forgotten."""
        return dict(self._index().forgotten)

    def forgotten_of(self, sha256: str) -> str | None:
        """The forgotten track of a song's bytes; None where there is none."""
        return self._index().forgotten_of(sha256)

    def stand_ins(self) -> set[str]:
        """Rows of places that could not be read once and were since: they stand for nothing."""
        index = self._index()
        return {track_id for track_id in index.rows if not index.stands(track_id)}

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
                schema = PART_SCHEMA if is_part else ALIAS_SCHEMA
                files.replace(path, parquet.encode(pa.Table.from_pylist(kept, schema=schema)))
        if held < 0:
            raise ValueError(f"track {track_id} was never in the catalog {self.directory}")
        return held

    def _commit(self, pending: Pending) -> list[int]:
        """Write what is pending as the next batch; what another writer catalogued meanwhile becomes aliases.

        The folder is listed only where another writer took the number: a listing for every batch is quadratic.
        """
        index = self._cache
        while pending:
            number, known = len(index.batches), index.rows.keys() & pending.keys()
            self._commit_aliases([claim for track_id in sorted(known) for claim in pending[track_id][1]])
            pending = {track_id: entry for track_id, entry in pending.items() if track_id not in known}
            path = self.directory / f"part-{number:05d}.parquet"
            if pending and files.create(path, encode_part(pending.values())):
                self._take(path, number)
                return [number]
            index = self._index()
        return []

    def _take(self, path: Place, number: int) -> None:
        """Hold a part of our own as if the folder had been listed."""
        with self._reading:
            if len(self._cache.batches) == number:  # else another thread has listed it
                self._cache.read(path)
                self._cache.files += ((path.name, files.version(path)),)

    def _commit_aliases(self, claims: list[Claim]) -> None:
        if not claims:
            return
        stem, turn, data = f"alias-{len(self._index().batches):05d}", 0, encode_aliases(claims)
        while not files.create(self.directory / f"{stem}-{turn:05d}.parquet", data):
            turn += 1

    def _index(self, again: bool = True) -> Index:
        """The catalog as it is on disk now; only files that came since the last look are read.

        `again`: list the folder, whatever its time of change says.
        """
        with self._reading:
            if not again and self._whole and self._folder.still():
                return self._cache
            self._whole = False  # until every file of the listing is read, whatever ends that
            found = self._files()
            if found[: len(self._cache.files)] != self._cache.files:
                self._cache = Index()
            for file in found[len(self._cache.files) :]:
                self._cache.read(self.directory / file[0])
                self._cache.files += (file,)
            self._whole = True
            return self._cache

    def _files(self) -> tuple[File, ...]:
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
