"""Looking at a folder often and listing it seldom.

Conventions: a local folder's time of change says whether names in it came, went or were renamed since it was listed,
but only in ticks of the file system's clock (4 ms on ext4, 2 s on FAT): a name that comes right after a listing may
leave it as it was. As in git's index, a listing is therefore trusted only where it was made clearly later than the
folder's last change. *Later* is told by this machine's steady clock since that change was first seen, so the clocks of
a file server need not agree with ours. Object stores have no such time: there, every look is a listing.
"""

import time
from collections.abc import Callable
from pathlib import Path

from pipeline.records import files
from pipeline.records.entries import Entry
from pipeline.records.files import Place

SETTLED_SECONDS = 5.0  # s; more than any tick. Ours


class Folder:
    """One folder and what is known of its last listing."""

    def __init__(self, place: Place, clock: Callable[[], float] = time.monotonic) -> None:
        self.place, self.clock = place, clock
        self._version, self._since, self._sure = "", 0.0, False

    def entries(self) -> list[Entry]:
        """What lies in it now."""
        now, version = self.clock(), self._now()
        if version != self._version:
            self._version, self._since = version, self.clock()
        self._sure = version != "" and now - self._since >= SETTLED_SECONDS
        return files.entries(self.place)

    def still(self) -> bool:
        """Whether the last `entries` certainly still holds; if not, list again."""
        return self._sure and self._now() == self._version

    def _now(self) -> str:
        return files.version(self.place) if isinstance(self.place, Path) else ""
