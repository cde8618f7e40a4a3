"""Reading a song's file while a build runs for days: the bytes that are heard are those that were catalogued.

Conventions: a track is named by the hash of its bytes, so whatever is heard under its name must be those bytes. Two
looks at a file's stamp (``pipeline.records.content``), 5 us each, tell that it did not change meanwhile.
"""

from pipeline.audio import DecodeLimits, decode
from pipeline.errors import BadInput, PipelineError
from pipeline.records.catalog import CatalogRow
from pipeline.records.content import read_content, stamp, still_holds
from pipeline.types import Audio

MISSING = "missing"  # reason of `pipeline.audio.decode`


class FileChangedError(PipelineError):
    """A song's file holds other bytes than were catalogued.

    Its row is *failed*, not quarantined: the next build catalogues the file anew, and either finds the old bytes back
    and tries again, or takes the new bytes in as a song of their own and says of the old one that it was replaced.
    """


class FileMissingError(PipelineError):
    """A song's file was there when it was catalogued, and is not, or can't be read.

    Its row is *failed*: that a disk is not mounted says nothing of the song, and the next build tries again.
    """


def hear(track: CatalogRow, limits: DecodeLimits) -> Audio:
    """The track decoded, from the first of its places that holds its bytes from before to after the reading.

    `BadInput` as in `decode`, but `FileMissingError` where no place can be read, and `FileChangedError` where they hold
    other bytes.
    """
    for uri, known in zip(track.uris, track.stamps or ("",) * len(track.uris), strict=True):
        seen = stamp(uri)
        if not still_holds(uri, known, seen, track.sha256):
            continue
        try:
            audio = decode(uri, limits)
        except BadInput as error:
            if stamp(uri) == seen and error.reason != MISSING:
                raise
            continue
        if stamp(uri) == seen:
            return audio
    raise _lost(track)


def hear_stem(uri: str, limits: DecodeLimits) -> Audio:
    """A true stem decoded; `FileMissingError` where it is not there, else `BadInput` as in `decode`."""
    try:
        return decode(uri, limits)
    except BadInput as error:
        if error.reason != MISSING:
            raise
        raise FileMissingError(
            f"{error} (a true stem; is its disk mounted?). It is tried again by the next build"
        ) from error


def _lost(track: CatalogRow) -> PipelineError:
    now = read_content(track.uri)
    if not now.sha256 and now.error != "empty":
        return FileMissingError(
            f"{now.message} (its bytes were catalogued; is its disk mounted?). It is tried again by the next build"
        )
    return FileChangedError(
        f"{track.uri} changed after it was catalogued (sha256 {track.sha256[:16]}, now "
        f"{now.sha256[:16] or now.message}); run the build again: it takes what the file holds now as a song of its "
        "own, or this song again where its bytes are back"
    )
