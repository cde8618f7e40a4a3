"""The funnel of a build: at each stage, how many songs came, went on, and why the others did not.

Counted from the committed ledger rows that are in force, so a resumed build reports what an undisturbed one reports.
"""

from collections.abc import Sequence

from flows.progress import statistics_of
from flows.stages.context import Context
from flows.survey import Survey
from flows.tally import BACKEND, MESSAGE, StageStatistics, merged


def funnel(context: Context) -> list[StageStatistics]:
    """What each stage did over the whole build, in the order of the build."""
    found = statistics_of(Survey(context, more=(*BACKEND, *MESSAGE)).look())
    return [merged(stage, context.keys[stage], batches.values()) for stage, batches in found.items()]


def failure_rate(counts: Sequence[StageStatistics], songs: int) -> float:
    """Share of songs that ended as failed at some stage (quarantined songs are not failures)."""
    failed = sum(sum(count.failed.values()) for count in counts)
    return failed / songs if songs else 0.0
