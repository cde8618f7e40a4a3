"""What a person sees of a build in Prefect's UI: how far it is, its funnel, its pace, its data card.

Conventions: none of it is the record, so a server that can't take it is a warning and never stops a build.
"""

import logging
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
)
from prefect.exceptions import PrefectException

from flows.control import best_effort
from flows.progress import StageProgress, progress_of, reasons, to_go
from flows.report import funnel_stage
from flows.stages.context import Context
from flows.survey import Survey
from flows.tally import MESSAGE
from model.evaluation.plots import funnel_chart, phases_chart, standalone
from model.evaluation.units import rate, size
from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)
Cells = dict[str, str | int | float]
RETRIES = 3  # after 2, 4 and 8 s, for a server that is busy with events; ours


@contextmanager
def progress_shown(context: Context) -> Iterator[None]:
    """Show where the build stands at the end of what runs inside, however it ends; what ended it is not covered up."""
    try:
        yield
    except BaseException:
        try:
            show_progress_of(context)
        except (OSError, pa.ArrowException, PipelineError) as error:
            logger.warning("where the build stands can't be shown: %s", error)
        raise
    show_progress_of(context)


def show_progress_of(context: Context) -> None:
    """The funnel and the pace of a build as tables and pictures, and how much of it is done."""
    progress = progress_of(Survey(context, more=MESSAGE).look())
    stages = [funnel_stage(stage.done) for stage in progress.stages]
    told = f"{progress.songs} songs, {progress.audio_seconds / 3600:.1f} hours of audio; {to_go(progress)}"
    with _shown():
        create_progress_artifact(100 * progress.share, key="build-progress", description=told)
        create_table_artifact([funnel_line(s) for s in progress.stages], key="funnel", description=FUNNEL)
        create_table_artifact([pace_line(s) for s in progress.stages], key="pace", description=PACE)
        _picture("funnel-chart", funnel_chart(stages), "Songs kept at every stage")
        if any(stage.phases for stage in stages):
            _picture("pace-chart", phases_chart(stages), "Seconds a song at every stage, by phase")


def show_card(text: str) -> None:
    """The data card as a page."""
    with _shown():
        create_markdown_artifact(text, key="data-card", description="The data card of this dataset")


FUNNEL = "Songs at every stage of the build; counted from what is committed, so a resumed build shows all of it"
PACE = (
    "What every stage took: seconds a song on one worker, songs and hours of audio that all workers got through, and "
    "songs whose batch a GPU's memory did not hold (build.resources.STAGE.gpus gives a stage's workers more of one)"
)


def funnel_line(stage: StageProgress) -> Cells:
    done = stage.done
    return {
        "stage": done.stage,
        "wanted": stage.wanted,
        "seen": done.seen,
        "ok": done.ok,
        "rejected": reasons(done.rejected),
        "quarantined": reasons(done.quarantined),
        "failed": reasons(done.failed),
        "seconds": round(done.seconds, 1),
    }


def pace_line(stage: StageProgress) -> Cells:
    done = stage.done
    spent = {f"{name}, s a song": round(done.phases.get(name, 0.0) / max(1, done.seen), 3) for name in PHASES}
    return {
        "stage": done.stage,
        "songs a second": rate(done.songs_per_second),
        "audio hours an hour": rate(done.audio_per_second),
        **spent,
        "peak memory": size(done.peak_bytes),
        "songs in smaller batches": done.shrunk,
    }


PHASES = ("load", "decode", "read", "work", "write")


def _picture(key: str, svg: str, description: str) -> None:
    picture = b64encode(standalone(svg).encode()).decode()
    create_image_artifact(f"data:image/svg+xml;base64,{picture}", key=key, description=description)


@contextmanager
def _shown() -> Iterator[None]:
    """What a server takes; one that is away is asked for the first artifact alone, since none of them is the record."""
    try:
        with best_effort("artifacts", RETRIES):
            yield
    except (PrefectException, OSError) as error:
        logger.warning("Prefect's server did not take an artifact (%s); nothing else is lost", error)
