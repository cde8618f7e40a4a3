"""One walk over a library: what each of its places holds now, new songs apart from known ones.

Conventions: a song is its bytes; with true stems beside it, theirs too, so that other stems make another track. A
source without stems means the track of its bytes, whichever was there first; a track that was catalogued without stems
gets none later (`Visits` says so). What can't be read now comes last and is looked for again by every walk.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.audio import Probe
from pipeline.errors import BadInput
from pipeline.records.content import Content, client_errors, is_url, stamp
from pipeline.records.library import Source
from pipeline.records.tracks import CatalogRow, Claim, Index, Pending

logger = logging.getLogger(__name__)
ABSENT = ("missing", "unreadable")  # errors of a place that may be readable tomorrow; an empty file is none
Stems = tuple[Content, ...]  # of the vocal and the accompaniment; none where the source names none


def places_of(source: Source) -> tuple[str, ...]:
    """The song, and its true stems where there are any."""
    return (source.uri, source.vocal, source.accompaniment) if source.vocal else (source.uri,)


def stamps(source: Source) -> str:
    """The stamps of all its places, a line each; empty where one can't be told."""
    seen = [stamp(place) for place in places_of(source)]
    return "\n".join(seen) if all(seen) else ""


def song_stamp(stamps: str) -> str:
    """Of `stamps`, that of the song alone."""
    return stamps.partition("\n")[0]


def track_id_of(sha256: str, *stems: str) -> str:
    """32 hex digits: of the song's own hash, or of all hashes where it has stems."""
    return hashlib.sha256("\n".join((sha256, *stems)).encode()).hexdigest()[:32] if stems else sha256[:32]


class Visits:
    """The walk: new songs in `pending`, places that can't be read in `unread`, places of known songs in `aliases`."""

    def __init__(self, index: Index, probe: Callable[[str], Probe], content: Callable[[str], Content]) -> None:
        self.index, self.probe, self.content = index, probe, content
        self.pending: Pending = {}
        self.unread: Pending = {}
        self.aliases: list[Claim] = []
        self.absent: list[str] = []  # what is said of each place that can't be read, known or not
        self._holders: dict[str, str] = {}  # as `Index.holders`, of what is pending

    def go_on(self, index: Index) -> None:
        """What was pending is committed."""
        self.index, self.pending, self._holders = index, {}, {}

    def check_disks(self, sources: Sequence[Source], limit: float) -> None:
        """As `check_absent`, before a byte is read: a disk that is not mounted is told at once."""
        new = (source for source in sources if not self._was_read(source.uri))
        local = (place for source in new for place in places_of(source)[:1] if not is_url(place))
        gone = [f"{place} does not exist" for place in local if not os.path.exists(place)]
        check_absent(gone, len(sources), limit)

    def _was_read(self, uri: str) -> bool:
        row = self.index.rows.get(self.index.owner.get(uri, ""))
        return row is not None and bool(row.sha256)

    def visit(self, source: Source) -> None:
        now, known = stamps(source), self.index.owner.get(source.uri)
        if known and now and self._unchanged(source, now):
            if known in self.index.rows:
                self._warn_of_edit(source, self.index.rows[known])
            return
        row = self._described(source, known)
        claim = Claim(row.track_id, source.uri, now if row.sha256 else "")  # what wasn't read is read again
        if (why := self._why_barred(row)) is not None:
            logger.info("catalog: %s was forgotten (%s), not taken", source.uri, why)
            if known and known != row.track_id:  # its place held another song
                self.aliases.append(claim)
            return
        if known in self.index.rows and not row.sha256 and not self.index.rows[known].error:
            return  # gone for now: the track it held stays
        if row.error in ABSENT and not row.sha256:
            self.absent.append(row.message)
        self._keep(source, row, claim, known)

    def _unchanged(self, source: Source, now: str) -> bool:
        before = self.index.stamps[source.uri]
        return now == (before if source.vocal else song_stamp(before))

    def _keep(self, source: Source, row: CatalogRow, claim: Claim, known: str | None) -> None:
        waiting = self.pending if row.sha256 or row.error not in ABSENT else self.unread
        if row.track_id in self.index.rows:
            self._warn_of_edit(source, self.index.rows[row.track_id])
            if known != row.track_id or self.index.stamps[source.uri] != claim.stamp:
                self.aliases.append(claim)
        elif row.track_id in waiting:
            waiting[row.track_id][1].append(claim)
        else:
            waiting[row.track_id] = (row, [claim])
            if row.sha256:
                self._holders.setdefault(row.sha256, row.track_id)

    def _described(self, source: Source, known: str | None) -> CatalogRow:
        """The row of what the source holds now; of a new one with its header's facts."""
        content = self.content(source.uri)
        if not content.sha256:
            return _row(source, content)
        held = self._held(source, known, content.sha256)
        if held:
            return replace(_row(source, content), track_id=held)
        stems = tuple(self.content(place) for place in places_of(source)[1:])
        if lacking := next((stem for stem in stems if not stem.sha256), None):
            return _row(source, lacking)
        row = _row(source, content, stems)
        is_new = row.track_id not in self.index.rows and row.track_id not in self.pending
        return self._probed(source, row) if is_new and self._why_barred(row) is None else row

    def _held(self, source: Source, known: str | None, sha256: str) -> str:
        """The track that a source of these bytes means whatever its stems hold; empty where they decide, or none."""
        plain = track_id_of(sha256)
        if source.vocal:
            return plain if plain in self.index.rows or plain in self.pending else ""
        if known in self.index.rows and self.index.rows[known].sha256 == sha256:
            return str(known)
        return self.index.holders.get(sha256) or self._holders.get(sha256, "")

    def _why_barred(self, row: CatalogRow) -> str | None:
        track_id = self.index.forgotten_of(row.sha256) if row.sha256 else row.track_id
        return self.index.forgotten.get(track_id or "")

    def _probed(self, source: Source, row: CatalogRow) -> CatalogRow:
        """The row with its header's facts; as if never read where its client fails now, since rows stay for good."""
        try:
            with client_errors(row.uri):
                header = self.probe(row.uri)
        except BadInput as error:
            return replace(row, error=error.reason, message=str(error))
        except OSError as error:
            message = f"{row.uri} can't be read: {error}; mend it or take it out of the library"
            return _row(source, Content(error="unreadable", message=message))
        return replace(row, duration=header.duration, sample_rate=header.sample_rate, channels=header.channels)

    def _warn_of_edit(self, source: Source, row: CatalogRow) -> None:
        """What a library says of a known track must be what it said first, or be empty."""
        said = {"split": source.split, "artist": source.artist, "text": source.text, "licence": source.licence}
        said |= {"vocal_uri": source.vocal, "accompaniment_uri": source.accompaniment}
        changed = {name: value for name, value in said.items() if value and value != getattr(row, name)}
        if changed:
            message = "%s is catalogued already; its new %s is not taken: take another root to have it otherwise"
            logger.warning(message, source.uri, changed)


def check_absent(messages: Sequence[str], named: int, limit: float) -> None:
    """`BadInput` where more than that share of the named songs can't be read and never was."""
    if messages and len(messages) > limit * named:
        raise BadInput(
            f"{len(messages)} of the {named} songs that the library names can't be read, build.failure_limit allows "
            f"{limit:.1%}; the first: {messages[0]}. Mount their disk or restore them, take them out of the library, "
            "or raise the limit to do without them",
            "library_unread",
        )


def _row(source: Source, content: Content, stems: Stems = ()) -> CatalogRow:
    hashes = [stem.sha256 for stem in stems]
    track_id = track_id_of(content.sha256 or hashlib.sha256(source.uri.encode()).hexdigest(), *hashes)
    vocal, accompaniment = hashes or ("", "")
    return CatalogRow(
        track_id=track_id, uris=(source.uri,), sha256=content.sha256, bytes=content.bytes,
        duration=0.0, sample_rate=0, channels=0,
        split=source.split, artist=source.artist, text=source.text, licence=source.licence,
        vocal_uri=source.vocal, accompaniment_uri=source.accompaniment,
        vocal_sha256=vocal, accompaniment_sha256=accompaniment, error=content.error, message=content.message,
    )  # fmt: skip
