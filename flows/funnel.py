"""The funnel of a build: at each stage, how many songs came, went on, and why the others did not.

Counted from the committed ledger rows that are in force, so a resumed build reports what an undisturbed one reports.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from flows.shards import tracks
from flows.stages.context import Context
from flows.stages.graph import NODES
from pipeline.records.ledger import Row


@dataclass(frozen=True, slots=True)
class StageCount:
    """One stage's tally over the whole build."""

    stage: str
    key: str
    ok: int
    rejected: Mapping[str, int]  # reason -> songs
    quarantined: Mapping[str, int]
    failed: Mapping[str, int]
    seconds: float  # of work, summed over songs
    backends: Mapping[tuple[str, str, str], int] = field(default_factory=dict)  # (backend, weights, licence) -> songs

    @property
    def seen(self) -> int:
        return self.ok + sum(sum(reasons.values()) for reasons in (self.rejected, self.quarantined, self.failed))


def funnel(context: Context) -> list[StageCount]:
    """One tally per stage, in the order of the build."""
    by_stage: dict[str, list[Row]] = defaultdict(list)
    for _, rows in tracks(context):
        for stage, row in rows.items():
            by_stage[stage].append(row)
    return [_count(stage, context.keys[stage], by_stage[stage]) for stage in NODES if stage in context.keys]


def _count(stage: str, key: str, rows: list[Row]) -> StageCount:
    def reasons(status: str) -> dict[str, int]:
        return dict(Counter(row.reason for row in rows if row.status == status))

    return StageCount(
        stage=stage,
        key=key,
        ok=sum(row.status == "ok" for row in rows),
        rejected=reasons("rejected"),
        quarantined=reasons("quarantined"),
        failed=reasons("failed"),
        seconds=sum(row.seconds for row in rows),
        backends=dict(Counter((r.backend, r.weights_sha256, r.licence) for r in rows if r.backend)),
    )


def failure_rate(counts: list[StageCount], songs: int) -> float:
    """Share of songs that ended as failed at some stage (quarantined songs are not failures)."""
    failed = sum(sum(count.failed.values()) for count in counts)
    return failed / songs if songs else 0.0
