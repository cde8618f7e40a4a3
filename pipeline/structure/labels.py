"""What each section is: repetition, energy, voice and position, in that order of trust.

Conventions: sections are given by boundaries on the grid (see `form`); a group is a set of sections of equal harmony.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipeline.structure.features import Array
from pipeline.types import Label

SAME = 0.4  # mean centred chroma cosine of two sections that count as repetitions; swept on 26 songs that we rendered
VOICED = 0.2  # share of a section with voice that makes it a sung one; ours
QUIET_DB = -50.0  # dB under the loudest moment; a section below is silence; ours
LATE = 0.5  # share of the song after which a part heard once is a bridge; ours


@dataclass(frozen=True, slots=True)
class Parts:
    """What is known of S sections, in order."""

    groups: tuple[int, ...]  # equal numbers = repetitions of one another
    level: Array  # [S] dB
    voice: Array | None  # [S] share of time with voice; None = not known
    length: Array  # [S] s


def group(chroma: Array, boundaries: Sequence[int]) -> tuple[int, ...]:
    """Group numbers by first appearance: a section joins the group that it is most like, if alike enough."""
    centred = chroma / (np.linalg.norm(chroma, axis=1, keepdims=True) + 1e-9)
    centred = centred - centred.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9
    sections = [centred[a:b] for a, b in pairwise(boundaries)]
    groups: list[int] = []
    for i, section in enumerate(sections):
        likeness = [_likeness(section, other) for other in sections[:i]]
        best = int(np.argmax(likeness)) if likeness else -1
        groups.append(groups[best] if likeness and likeness[best] >= SAME else max(groups, default=-1) + 1)
    return tuple(groups)


def name(parts: Parts) -> tuple[Label, ...]:
    """One label per section."""
    labels: list[Label | None] = [_unsung(parts, i) for i in range(len(parts.groups))]
    sung = [i for i, label in enumerate(labels) if label is None]
    chorus = _chorus(parts, sung)
    for i in sung:
        labels[i] = _sung(parts, sung, i, chorus)
    return tuple(label for label in labels if label is not None)


def _likeness(a: Array, b: Array) -> float:
    """The mean cosine of two sections laid over one another, at the best of a few shifts."""
    short, long = (a, b) if len(a) <= len(b) else (b, a)
    slack = len(long) - len(short)
    shifts = sorted({*range(0, slack + 1, 4), slack})
    return max(float(np.mean(np.sum(short * long[s : s + len(short)], axis=1))) for s in shifts)


def _unsung(parts: Parts, i: int) -> Label | None:
    """The label of a section in which nobody sings; None for a sung one."""
    first, last = i == 0, i == len(parts.groups) - 1
    if parts.level[i] < QUIET_DB:
        return "silence"
    if not _is_unsung(parts, i):
        return None
    return "intro" if first else "outro" if last else "inst"


def _is_unsung(parts: Parts, i: int) -> bool:
    if parts.voice is not None:
        return bool(parts.voice[i] < VOICED)
    # Without a detector: the edges of a song, where they are short or soft, are most often played.
    edge = i in (0, len(parts.groups) - 1) and len(parts.groups) > 2
    soft = parts.level[i] < np.median(parts.level) - 1.0
    return edge and bool(soft or parts.length[i] < np.median(parts.length))


def _chorus(parts: Parts, sung: Sequence[int]) -> int | None:
    """The group that comes back and is loudest; none where nothing comes back."""
    counts = {g: [i for i in sung if parts.groups[i] == g] for g in {parts.groups[i] for i in sung}}
    back = {g: float(parts.level[members].mean()) for g, members in sorted(counts.items()) if len(members) > 1}
    return max(back, key=lambda g: back[g]) if back else None


def _sung(parts: Parts, sung: Sequence[int], i: int, chorus: int | None) -> Label:
    group_of = parts.groups
    if chorus is None:
        return "verse"
    if group_of[i] == chorus:
        return "chorus"
    members = [j for j in sung if group_of[j] == group_of[i]]
    if len(members) > 1 and all(_leads_in(parts, sung, j, chorus) for j in members):
        return "pre-chorus"
    heard_chorus = any(group_of[j] == chorus for j in sung if j < i)
    if len(members) == 1 and heard_chorus and i >= LATE * len(group_of):
        return "bridge"
    return "verse"


def _leads_in(parts: Parts, sung: Sequence[int], i: int, chorus: int) -> bool:
    """Whether a section stands between another sung section and the chorus."""
    return (
        i - 1 in sung
        and parts.groups[i - 1] not in (chorus, parts.groups[i])
        and i + 1 in sung
        and parts.groups[i + 1] == chorus
    )
