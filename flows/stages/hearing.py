"""Reading a song's file while a build runs for days: the bytes that are heard are those that were catalogued.

Conventions: a track is named by the hash of its bytes, so whatever is heard under its name must be those bytes. Two
looks at a file's stamp (``pipeline.records.content``), 5 us each, tell that it did not change meanwhile.
"""

from pipeline.audio import DecodeLimits, decode
from pipeline.errors import BadInput, PipelineError
from pipeline.records.catalog import CatalogRow
from pipeline.records.content import read_content, stamp, still_holds
from pipeline.types import Audio


class FileChangedError(PipelineError):
    """A song's file holds other bytes than were catalogued.

    Its row is *failed*, not quarantined: the next build catalogues the file anew, and either finds the old bytes back
    and tries again, or takes the new bytes in as a song of their own and says of the old one that it was replaced.
    """


def hear(track: CatalogRow, limits: DecodeLimits) -> Audio:
    """The track decoded, from the first of its places that holds its bytes from before to after the reading.

    `BadInput` as in `decode`, `FileChangedError` where no place holds them any more.
    """
    for uri, known in zip(track.uris, track.stamps or ("",) * len(track.uris), strict=True):
        seen = stamp(uri)
        if not still_holds(uri, known, seen, track.sha256):
            continue
        try:
            audio = decode(uri, limits)
        except BadInput:
            if stamp(uri) == seen:
                raise
            continue
        if stamp(uri) == seen:
            return audio
    raise _lost(track)


def _lost(track: CatalogRow) -> PipelineError:
    now = read_content(track.uri)
    if now.error == "missing":
        return BadInput(f"{track.uri}: no such file. Check the path or put the file back.", "missing")
    return FileChangedError(
        f"{track.uri} changed after it was catalogued (sha256 {track.sha256[:16]}, now "
        f"{now.sha256[:16] or now.message}); run the build again: it takes what the file holds now as a song of its "
        "own, or this song again where its bytes are back"
    )
