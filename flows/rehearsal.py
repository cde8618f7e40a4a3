"""Rehearsal: a whole build with stand-ins for the stages, to measure and to break the machinery around them.

Conventions: a recipe without the section `rehearsal` never meets a stand-in. With it every stage key is another one, so
nothing that a rehearsal keeps is ever found by a real build in the same root, nor the other way round. What the
stand-ins say follows from the track id and `results` alone; `faults` and sleeps change no key and no byte of a dataset.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.config import Config

WORKERS = "flows.bench.noop"  # the module of the stand-ins: one class for each stage, named as its worker
Fault = Literal["fail", "bad", "die", "hang", "unavailable"]
"""fail: an exception; bad: `BadInput`; die: SIGKILL to itself; hang: never returns; unavailable: stops the run."""
_TARGET = r"(\*|[a-z-]+):(\*|[0-9a-f]{1,32})"


class RehearsalResults(Config):
    """What the results depend on: part of every stage key."""

    seed: int = 0
    rejected: float = Field(default=0.05, ge=0, le=1)  # share of songs that detection calls speech; ours
    quarantined: float = Field(default=0.01, ge=0, le=1)  # share that annotation refuses as input; ours
    seconds: float = Field(default=2.0, gt=0)  # s of a song, as its tokens say, whatever the file holds; ours


class Rehearsal(Config):
    """How the stand-ins behave."""

    results: RehearsalResults = RehearsalResults()
    sleep: float = Field(default=0.0, ge=0)  # s that a stand-in sleeps over each song
    read_audio: bool = False  # whether stages that listen decode the song's file, as the real ones do
    faults: Mapping[Fault, tuple[Annotated[str, StringConstraints(pattern=f"^{_TARGET}$")], ...]] = {}  # stage:track id
    once: str = ""  # a folder: there each fault leaves a mark, and it strikes no second time; empty = every time

    def struck(self, stage: str, track_id: str) -> list[Fault]:
        """The faults that are meant for this stage of this song; ``*`` is all, a track id may be cut short."""
        return [fault for fault, targets in self.faults.items() if any(_hits(t, stage, track_id) for t in targets)]


def _hits(target: str, stage: str, track_id: str) -> bool:
    match = re.fullmatch(_TARGET, target)
    return match is not None and match[1] in ("*", stage) and (match[2] == "*" or track_id.startswith(match[2]))
