"""What a listing tells of one name, on a disk and in an object store alike."""

from dataclasses import dataclass

ATTEMPT_PREFIX = ".attempt-"  # of names that no reader lists


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """One file or folder; order is by name."""

    name: str  # below the directory that was listed
    bytes: int
    changed: float  # s since 1970, by the store's own clock
    version: str  # another one when the content is another
    folder: bool = False
