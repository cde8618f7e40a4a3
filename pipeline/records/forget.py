"""Take a song whose rights were withdrawn out of a root: catalog, ledger, artefacts and every shard.

Conventions: only while no build writes here. The catalog's blank row comes first, so a run that was killed is finished
by the next one and ends in the same state; every later build knows the song by its bytes and leaves it out. What was
made outside the root (models, reports, copies), and the versions that a bucket may keep, are not touched.
"""

import logging
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.fingerprint import sketch
from pipeline.records import files
from pipeline.records.catalog import Catalog
from pipeline.records.files import DamageError, Place
from pipeline.records.groups import Member, followers, forget_member, read_groups, renew
from pipeline.records.ledger import Ledger
from pipeline.records.leftovers import remove_unfinished
from pipeline.records.lookup import Indexed
from pipeline.records.sharding import (
    MANIFEST,
    Sidecar,
    commit_shard,
    history,
    read_manifest,
    sync,
    unlisted,
    write_manifest,
)
from pipeline.records.store import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What went."""

    track_id: str
    rows: int  # of the ledger
    artefacts: int
    shards: tuple[str, ...]  # listed shards that were written anew or dropped
    copies: tuple[str, ...] = ()  # track ids of other files of the same recording, which are still there


def forget(root: Place, song: str, reason: str) -> Forgotten:
    """Forget a song, named by its track id (or its beginning), a file or a URI of its library.

    `BadInput` where that names no song or several; `DamageError` where a shard can't be read, after all else went.
    """
    catalog, ledger = Catalog(root), Ledger(root)
    track_id = _track_id(catalog, root, song)
    batch = catalog.forget(track_id, reason)
    why = catalog.forgotten()[track_id]
    copies = _forget_in_groups(root, ledger, track_id)
    rows = ledger.forget(track_id, batch)
    stores = [Store(ledger.directory(stage, key)) for stage, key in ledger.stages()]
    artefacts = sum(len(store.forget(track_id)) for store in stores)
    remove_unfinished(root)  # what a killed writer left may hold the song
    shards: list[str] = []
    for entry in files.entries(root / "datasets"):
        if entry.folder:
            shards += _forget_in_dataset(root / "datasets" / entry.name, track_id, why)
    logger.info("forgot %s: %d rows, %d artefacts, %d shards", track_id, rows, artefacts, len(shards))
    if copies:
        logger.warning("the same recording is still there as %s; forget these too if it has to go", ", ".join(copies))
    return Forgotten(track_id, rows, artefacts, tuple(shards), tuple(copies))


def _forget_in_groups(root: Place, ledger: Ledger, track_id: str) -> list[str]:
    """Take the song out of its group; the others. The next of a leader's group leads, and is judged anew."""
    renew()
    groups = read_groups(root)
    member = groups.members.get(track_id)
    leader = member.leader if member and member.leader else track_id
    led = followers(groups, leader)
    if leader != track_id:
        forget_member(root, track_id, None)
        return [leader, *(other.track_id for other in led if other.track_id != track_id)]
    if led:
        ledger.forget(led[0].track_id, led[0].batch, only="selection")  # it may have been a duplicate
    forget_member(root, track_id, _indexed(ledger, led[0]) if led else None)
    return [other.track_id for other in led]


def _indexed(ledger: Ledger, member: Member) -> Indexed | None:
    """A song as the index has it, from its newest fingerprint; None where that is gone."""
    found = None
    for stage, key, row in ledger.story(member.track_id, member.batch):
        if stage == "fingerprint" and row.artefacts:
            found = Store(ledger.directory(stage, key)).get_arrays(row.artefacts[0])["words"]
    return Indexed(member.track_id, member.batch, sketch(found)) if found is not None else None


def _track_id(catalog: Catalog, root: Place, song: str) -> str:
    """The one song that is meant; it may be forgotten already."""
    known = catalog.find(song)
    found = {row.track_id for row in known}
    gone = catalog.forgotten()
    if not found and Path(song).expanduser().is_file():
        found = {files.digest(Path(song).expanduser())[0][:32]} & gone.keys()
    if not found and len(song) >= 4:
        found = {track_id for track_id in gone if track_id.startswith(song)}
    if len(found) != 1:
        said = f"{len(found)} songs ({', '.join(sorted(found))})" if found else "no song"
        raise BadInput(f"{song!r} names {said} in the catalog under {root}; give one track id", "unknown_song")
    if known and not known[0].sha256:
        raise BadInput(f"{song!r}: no byte of it was ever read; take it out of the library", "never_read")
    return found.pop()


def _forget_in_dataset(directory: Place, track_id: str, reason: str) -> list[str]:
    """Write the shards that hold a track anew, list them, then remove the old ones; the names of the old ones."""
    shards: tuple[Sidecar, ...] = ()
    changed: dict[str, Sidecar | None] = {}
    if (directory / MANIFEST).exists():
        manifest = read_manifest(directory)
        held = [shard for shard in manifest.shards if _holds(directory / shard.file, track_id)]
        changed = {shard.file: _rewrite(directory, shard, track_id) for shard in held}
        shards = tuple(new for shard in manifest.shards if (new := changed.get(shard.file, shard)))
    if changed:
        names = {old: new.file if new else "" for old, new in changed.items()}
        event = {"forgotten": track_id, "reason": reason, "shards": names}
        extra = {**manifest.extra, "history": [*history(directory), event]}
        write_manifest(directory, manifest.name, manifest.config_hash, shards, manifest.stages, **extra)
    for path in unlisted(directory, shards):
        if path.name.endswith(".tar") and _holds(path, track_id):
            files.remove([path.with_suffix(".json")])  # first: a tar without a commit is found again
            files.remove([path])
    return list(changed)


def _holds(path: Place, track_id: str) -> bool:
    try:
        with files.fetched(path) as local, tarfile.open(local, "r:") as tar:
            return any(_of(name, track_id) for name in tar.getnames())
    except (tarfile.TarError, FileNotFoundError) as error:
        raise DamageError(f"{path} can't be searched for the song: {error}; remove it and build again") from error


def _of(member: str, track_id: str) -> bool:
    return member.partition(".")[0].partition("-")[0] == track_id


def _rewrite(directory: Place, shard: Sidecar, track_id: str) -> Sidecar | None:
    """The committed shard of all samples but the track's, their bytes as they were; None if there is no other."""
    with files.attempt(directory / shard.file) as temporary:
        with files.fetched(directory / shard.file) as local:
            if files.digest(local) != (shard.sha256, shard.bytes):
                raise DamageError(f"{directory / shard.file} is not as committed; remove it, build again, then forget")
            keys = _copy_without(local, temporary, track_id)
        if not keys:
            return None
        return commit_shard(directory, temporary, shard.split, shard.number, keys, shard.config_hash)


def _copy_without(source: Path, target: Path, track_id: str) -> Sequence[str]:
    keys: dict[str, None] = {}
    with tarfile.open(source, "r:") as old, target.open("xb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as new:
            for info in old:
                if not _of(info.name, track_id):
                    new.addfile(info, old.extractfile(info))
                    keys[info.name.partition(".")[0]] = None
        sync(file)
    return list(keys)
