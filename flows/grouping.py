"""Grouping: which songs of a library are one recording, found batch after batch, and with it the splits for good.

Conventions: a step of the whole build, between the stage `fingerprint` and the stages that need splits; it looks at
songs in the order of the catalogue alone, so workers, kills and restarts change nothing. A song whose fingerprint
failed when its batch was grouped is grouped by the first build that has it, as if it had come last.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from flows.engine.batch import catalog_of
from flows.stages.context import Context, artefact
from pipeline.fingerprint import Likeness, Words, compare, is_copy, sketch
from pipeline.records.catalog import CatalogRow
from pipeline.records.groups import Groups, Member, commit_groups, read_groups, read_index, renew
from pipeline.records.ledger import Ledger, Row
from pipeline.records.lookup import DRIFT, Candidate, Indexed, Lookup
from pipeline.records.splits import SplitError, SplitRule, fix_splits

logger = logging.getLogger(__name__)
STAGE, WORDS = "fingerprint", "words"  # the stage and its artefact
MISSING = ""  # leader of a song that could not be grouped yet
CACHED_BATCHES, CACHED_SONGS = 8, 512  # rows and words of songs that were compared last, 10 MB; ours


@dataclass(frozen=True, slots=True)
class Found:
    """What the grouping found of one song."""

    track: CatalogRow
    batch: int
    leaders: tuple[tuple[str, int], ...]  # (track id, batch) of the groups that it is a copy of, the earliest first
    likeness: Likeness  # to the first of them


def group_songs(context: Context, batches: int) -> Groups:
    """Group the songs of the first so many batches that are not grouped yet, and fix the splits if nobody has.

    `SplitError` where a batch has no fingerprints yet, and as in `fix_splits`.
    """
    while True:
        renew()
        known = read_groups(context.root)
        waiting = list(_waiting(context, known, batches))
        found, missing, index = find_copies(context, known, waiting)
        rule = _fix(context, known, found)
        if not waiting and batches <= known.covered:
            return known
        members = [*_members(context, known, rule, found), *missing]
        if commit_groups(context.root, known.runs, max(batches, known.covered), members, index):
            logger.info("%d songs grouped: %s", len(waiting), tell(members))
            return read_groups(context.root)


def tell(members: Sequence[Member]) -> str:
    """Counts for people."""
    copies = sum(member.follows for member in members)
    groups = len({member.leader for member in members if member.follows})
    conflicts = sum(member.conflict != "" for member in members)
    return f"{copies} are other files of {groups} recordings, {conflicts} of them in conflict with a split"


def find_copies(
    context: Context, known: Groups, waiting: Sequence[tuple[CatalogRow, int, Row | None]]
) -> tuple[list[Found], list[Member], list[Indexed]]:
    """The songs that are copies or came late, those that have no fingerprint, and what the index gains."""
    lookup, words_of = Lookup(), _reader(context)
    if waiting:
        lookup.add(read_index(context.root, known))
    found: list[Found] = []
    missing: list[Member] = []
    new: list[Indexed] = []
    for track, batch, row in waiting:
        if row is None or row.status != "ok":
            missing.append(Member(track.track_id, batch, MISSING, ""))
        elif row.artefacts:  # a stand-in's row has none: such a song is alone
            words = words_of(track.track_id, batch)
            likely = sketch(words)
            copies = list(copies_among(words, lookup.candidates(likely), words_of))
            leaders = tuple((candidate.track_id, candidate.batch) for candidate, _ in copies)
            if copies or track.track_id in known.members:
                found.append(Found(track, batch, leaders, copies[0][1] if copies else Likeness(1.0, 0, 0)))
            if not copies:
                song = Indexed(track.track_id, batch, likely)
                lookup.add([song])
                new.append(song)
    return found, missing, new


def copies_among(
    words: Words, candidates: Iterable[Candidate], words_of: Callable[[str, int], Words]
) -> Iterator[tuple[Candidate, Likeness]]:
    """Those candidates that are the same recording, the earliest first."""
    for candidate in sorted(candidates, key=lambda candidate: candidate.number):
        other = words_of(candidate.track_id, candidate.batch)
        near = range(candidate.offset - DRIFT - 1, candidate.offset + DRIFT + 2)
        best = min((compare(words, other, offset) for offset in near), key=lambda likeness: likeness.errors)
        if is_copy(words, other, best):
            yield candidate, best


def _waiting(context: Context, known: Groups, batches: int) -> Iterator[tuple[CatalogRow, int, Row | None]]:
    """Songs to group: those that came too late for their batch, then those of new batches."""
    for batch in sorted({member.batch for member in known.members.values() if member.leader == MISSING}):
        rows = _rows(context, batch)
        for track in catalog_of(context.root).read(batch):
            member, row = known.members.get(track.track_id), rows.get(track.track_id)
            if member and member.leader == MISSING and row and row.status == "ok":
                yield track, batch, row
    for batch in range(known.covered, batches):
        rows = _rows(context, batch)
        tracks = catalog_of(context.root).read(batch)
        if lacking := [track.track_id for track in tracks if track.track_id not in rows]:
            raise SplitError(
                f"{len(lacking)} songs of batch {batch} have no fingerprint yet, the first is {lacking[0]}; run a "
                f"build with the stage {STAGE}, which works on this batch and all before it"
            )
        for track in tracks:
            yield track, batch, rows.get(track.track_id)


def _rows(context: Context, batch: int) -> dict[str, Row]:
    return Ledger(context.root).rows(STAGE, context.keys[STAGE], batch)


def _reader(context: Context) -> Callable[[str, int], Words]:
    store = context.store(STAGE)
    rows_of = lru_cache(maxsize=CACHED_BATCHES)(lambda batch: _rows(context, batch))

    @lru_cache(maxsize=CACHED_SONGS)
    def words_of(track_id: str, batch: int) -> Words:
        row = rows_of(batch).get(track_id)
        if row is None or not row.artefacts:  # settings changed, and today's refuse that song
            return np.zeros(0, np.uint32)
        return store.get_arrays(artefact(row, WORDS))[WORDS]

    return words_of


def _fix(context: Context, known: Groups, found: Sequence[Found]) -> SplitRule:
    """The rule of the splits; a song that follows another one fills no split."""
    following = {song.track.track_id for song in found if song.leaders}
    following |= {track_id for track_id, member in known.members.items() if member.follows}
    rows = catalog_of(context.root).rows()
    return fix_splits(context.root, context.recipe.splits, [row for row in rows if row.track_id not in following])


def _members(context: Context, known: Groups, rule: SplitRule, found: Sequence[Found]) -> Iterator[Member]:
    for song in found:
        if not song.leaders:
            yield Member(song.track.track_id, song.batch, song.track.track_id, "")  # came late, and is alone
            continue
        splits = [known.split_of(leader) or rule.split_of(_track(context, leader, at)) for leader, at in song.leaders]
        asked = {*splits, *([song.track.split] if song.track.split else [])}
        yield Member(
            song.track.track_id, song.batch, song.leaders[0][0], splits[0],
            "split_conflict" if len(asked) > 1 else "", song.likeness.errors, song.likeness.seconds,
        )  # fmt: skip


def _track(context: Context, track_id: str, batch: int) -> CatalogRow:
    return next(row for row in catalog_of(context.root).read(batch) if row.track_id == track_id)
