"""A build on the servers of infra/compose.yaml: PostgreSQL, Redis, background services apart from the API, a worker."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from compose_stack import Stack, serve_stack
from private_servers import require_tools, wait_for

from flows.bench.tiny import write_library
from flows.build_dataset import BuildParameters, BuildResult, build_dataset
from flows.shards import dataset_directory
from flows.work import ALL_STAGES, open_build
from pipeline.records import files

pytestmark = [pytest.mark.timeout(1800), pytest.mark.enable_socket]
SONGS, BATCH = 40, 20
RUN_SECONDS = 600  # a run took 60 s of a machine of two cores, 280 s beside ten other processes
ARRIVAL_SECONDS = 120  # what has happened is told to the database by the background services, later
OVERRIDES = ["rehearsal={}", f"library.batch_size={BATCH}", "build.workers=1"]


@dataclass(frozen=True)
class Run:
    """A flow run that has ended."""

    told: dict[str, Any]  # by the API
    build: BuildParameters
    log: Path  # of the worker and the flow

    def where(self) -> dict[str, Any]:
        """The API's filter for what belongs to this run."""
        return {"flow_runs": {"id": {"any_": [self.told["id"]]}}}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    require_tools()
    with serve_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_library(tmp_path_factory.mktemp("songs"), SONGS)


@pytest.fixture(scope="module")
def run(stack: Stack, songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The deployment's run, started as the run form starts it."""
    build = BuildParameters(library=str(songs), root=str(tmp_path_factory.mktemp("root")), overrides=OVERRIDES)
    with stack.run("deploy") as deploying:
        assert deploying.wait(RUN_SECONDS) == 0, (stack.home / "deploy.log").read_text()
    with stack.run("worker", PREFECT_WORKER_QUERY_SECONDS="2") as worker, stack.client() as api:
        deployment = api.get("/deployments/name/build-dataset/pool").json()["id"]
        parameters = {"parameters": {"build": build.model_dump(mode="json")}}
        made = api.post(f"/deployments/{deployment}/create_flow_run", json=parameters).json()
        wait_for(lambda: ended(api, made["id"]), worker, "the build", RUN_SECONDS)
        return Run(api.get(f"/flow_runs/{made['id']}").json(), build, stack.home / "worker.log")


def ended(api: httpx.Client, run: str) -> bool:
    return api.get(f"/flow_runs/{run}").json()["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture(scope="module")
def undisturbed(prefect: None, songs: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """The same library, built in this process with Prefect's own small database."""
    root = tmp_path_factory.mktemp("undisturbed")
    return build_dataset(BuildParameters(library=str(songs), root=str(root), overrides=OVERRIDES))


def test_dataset_is_the_one_that_a_laptop_builds(run: Run, undisturbed: BuildResult) -> None:
    assert run.told["state"]["type"] == "COMPLETED", run.log.read_text()[-4000:]
    context = open_build(run.build)
    manifest = dataset_directory(context.root, context.recipe.name) / "manifest.json"
    assert undisturbed.dataset is not None
    assert files.digest(manifest)[0] == undisturbed.dataset.manifest_sha256


def test_tables_and_card_are_shown(stack: Stack, run: Run) -> None:
    with stack.client() as api:
        shown = {artifact["key"]: artifact for artifact in api.post("/artifacts/filter", json=run.where()).json()}
    assert {"funnel", "funnel-chart", "data-card"} <= set(shown)
    assert json.loads(shown["funnel"]["data"])[0]["seen"] == SONGS


def test_what_happened_arrives_through_redis(stack: Stack, run: Run) -> None:
    """Task runs are written to PostgreSQL by a service that hears of them from a stream; so are events."""
    wanted = {f"{stage}-{batch}" for stage in ALL_STAGES for batch in range(SONGS // BATCH)}
    resource = {"id": [f"prefect.flow-run.{run.told['id']}"]}
    events = {"filter": {"any_resource": resource, "event": {"prefix": ["prefect.flow-run."]}}, "limit": 50}

    def done() -> bool:
        tasks = api.post("/task_runs/filter", json=run.where()).json()
        return wanted <= {task["name"] for task in tasks if task["state_type"] == "COMPLETED"}

    def told() -> set[str]:
        found = api.post("/events/filter", json=events).json()["events"]
        return {happened["event"].removeprefix("prefect.flow-run.") for happened in found}

    with stack.client() as api:
        wait_for(done, None, "the task runs", ARRIVAL_SECONDS)
        wait_for(lambda: all(drained(stack).values()), None, "the events", ARRIVAL_SECONDS)
        # what was heard is written in batches, a little later
        wait_for(lambda: {"Pending", "Running", "Completed"} <= told(), None, "the run's events", ARRIVAL_SECONDS)


def drained(stack: Stack) -> dict[str, bool]:
    """For each service that hears of events, whether it has heard of all."""
    import redis

    with redis.Redis.from_url(f"redis://{stack.places['redis:6379']}/0", decode_responses=True) as client:
        groups = client.xinfo_groups("events")
    return {group["name"]: group["lag"] == 0 and group["pending"] == 0 for group in groups}
