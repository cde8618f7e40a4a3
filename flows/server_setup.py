"""What a Prefect server must have for our flows, made where it lacks: a limit for GPUs, a watch over runs, a pool, and
training that goes on after a crash.

Idempotent; what is there is left as a person may have changed it in the UI.
"""

import json
import logging
from datetime import timedelta
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.slots import GPU_LIMIT

logger = logging.getLogger(__name__)
WATCH = "backline: a run without a heartbeat has crashed"
TAG = "backline"  # of all our deployments: other flows of the server are none of our business
ONWARD = "backline: training that crashed is scheduled again"
NO_BEGINNING = "backline: training that crashes before it begins has failed"
TRAINING = "training"  # tag of the deployments whose crashed runs that means
HEARTBEAT = "prefect.flow-run.heartbeat"
CRASHED = "prefect.flow-run.Crashed"
# Runs send a heartbeat a minute (flows/environment.py). Long enough that a server that was restarted, or is late with
# its events (two minutes were measured under load), takes no living run for a dead one; ours.
SILENCE = timedelta(minutes=5)
# After a crash, before the run is scheduled again. Of a killed process Prefect 3.8's worker tells twice: the runner at
# once, the worker after the runner has imported the flow for its hooks (30 s were measured under load). The second
# word, which a crashed run ignores, would end a run that has begun again. Ours
CALM = timedelta(minutes=1)
BEGINNINGS = 3  # crashes in a row before the flow's code runs, within BEGINNING; ours, as flows.rescheduling.MOST
BEGINNING = timedelta(hours=1)
# What tells that somebody has moved a crashed run on. No heartbeat: a run's last one may come after its crash
MOVED = {
    f"prefect.flow-run.{name}"
    for name in ("Scheduled", "AwaitingRetry", "Pending", "Running", "Completed", "Failed", "Cancelled", "Cancelling")
}
RUN_COUNT = "prefect.run-count"  # how often the run's code has begun


def set_up(gpu_slots: int) -> None:
    """The limit, the watch, and what schedules training again."""
    make_gpu_limit(gpu_slots)
    make_watch()
    _make(onward())
    _make(no_beginning())


def make_gpu_limit(slots: int) -> None:
    """The limit on stages that need a GPU at the same time; 0 = none is made, and nothing waits."""
    with get_client(sync_client=True) as client:
        try:
            there = client.read_global_concurrency_limit_by_name(GPU_LIMIT)
        except ObjectNotFound:
            if slots:
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU_LIMIT, limit=slots))
        else:
            if there.limit != slots:
                logger.info("the limit %s stays at %d; the UI changes it", GPU_LIMIT, there.limit)


def make_watch(silence: timedelta = SILENCE) -> None:
    """The automation that marks runs as crashed whose heartbeats stopped: their process or machine is gone."""
    _make(watch(silence))


def _make(automation: AutomationCore) -> None:
    with get_client(sync_client=True) as client:
        if not client.read_automations_by_name(automation.name):
            client.create_automation(automation)
        for twin in sorted(client.read_automations_by_name(automation.name), key=lambda one: str(one.id))[1:]:
            client.delete_automation(twin.id)  # of a call at the same time


def watch(silence: timedelta) -> AutomationCore:
    """After a heartbeat some other event of the run must come: a heartbeat, or a change of state."""
    return AutomationCore(
        name=WATCH,
        description="Made by `backline serve` and `backline deploy`; Retry then goes on from what is committed.",
        trigger=EventTrigger(
            after={HEARTBEAT},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": [f"prefect.tag.{TAG}"], "prefect.resource.role": ["tag"]}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=silence,
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message=f"no heartbeat for {silence}: killed, or cut off")
        ],
    )


def onward(calm: timedelta = CALM) -> AutomationCore:
    """A run of training that crashed (its trainer, its process or its machine is gone) waits for a worker again.

    Nothing else must have happened to it for a while. Cancelled and failed runs stay as they are; `no_beginning` and
    `flows.rescheduling` end it where starts lead nowhere.
    """
    return AutomationCore(
        name=ONWARD,
        description="Made by `backline serve` and `backline deploy`; the run resumes from its newest checkpoint.",
        trigger=EventTrigger(
            after={CRASHED},
            expect=MOVED | {CRASHED},  # another crash begins the wait anew
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=_training(),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=calm,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", message="training crashed: scheduled again, it resumes"
            )
        ],
    )


def no_beginning() -> AutomationCore:
    """A run of training fails that crashed again and again while its code never came to run."""
    return AutomationCore(
        name=NO_BEGINNING,
        description="Made by `backline serve` and `backline deploy`; Retry tries again.",
        trigger=EventTrigger(
            expect={CRASHED},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=_training(),
            for_each={"prefect.resource.id", RUN_COUNT},
            posture=Posture.Reactive,
            threshold=BEGINNINGS,
            within=BEGINNING,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.FAILED,
                message=f"{BEGINNINGS} crashes in a row before the flow's code ran: it can't be imported, or its "
                "process can't be started; the worker's log says why. Mend it, then press Retry",
            )
        ],
    )


def _training() -> ResourceSpecification:
    return ResourceSpecification({"prefect.resource.id": [f"prefect.tag.{TRAINING}"], "prefect.resource.role": ["tag"]})


def make_pool(name: str, kind: str, template: Path) -> None:
    """The work pool, from its job template."""
    body = json.loads(template.read_text(encoding="utf-8"))
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=body))
        except ObjectAlreadyExists:
            logger.info("the work pool %s is there and stays as it is", name)
