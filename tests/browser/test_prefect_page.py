"""A build from Prefect's page, as its user goes about it: the run form, the funnel, a batch that fails, Retry.

`backline serve` runs as README says; the songs are tiny and stand-ins do the stages' work. With BACKLINE_SHOTS the
pictures of README's section on the page are put there: BACKLINE_SHOTS=infra/screenshots pytest -m browser tests/browser
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page
from private_servers import free_port, started, wait_for
from window import Window, open_window

from flows.bench.noop import share
from flows.bench.tiny import write_library
from flows.build_dataset import BuildParameters
from flows.work import ALL_STAGES
from pipeline.records import files
from pipeline.records.catalog import Catalog

pytestmark = [pytest.mark.browser, pytest.mark.timeout(3600), pytest.mark.enable_socket]
ROOT = Path(__file__).parents[2]
SONGS, BATCH = 60, 15
RUN_SECONDS = 900
TOLD_SECONDS = 120  # s for the last states of tasks to arrive
FAILS = "separation"  # the stage that one batch fails at
NAME = "tokens of the new songs"  # of the run
TRIES = 3  # a server whose SQLite is locked answers 503


@dataclass(frozen=True)
class Case:
    """A library, and a recipe by which one song of it stops its batch, once."""

    library: Path
    recipe: Path
    root: Path
    victim: str  # track id

    @property
    def batch(self) -> int:
        """The batch of that song, once there is a catalogue."""
        return Catalog(files.place(str(self.root))).batch_of(self.victim)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("build", numbered=False)
    library = write_library(folder / "songs", SONGS)
    tracks = [hashlib.sha256(path.read_bytes()).hexdigest()[:32] for path in sorted(library.parent.rglob("*.wav"))]
    victim = next(track for track in tracks[SONGS // 2 :] if share(0, "speech", track) > 0.5)  # called a song
    (folder / "marks").mkdir()
    results = {"rejected": 0.15, "quarantined": 0.05}  # so that the funnel has something to show
    faults = {"unavailable": [f"{FAILS}:{victim}"]}
    rehearsal = {"results": results, "faults": faults, "once": str(folder / "marks")}
    recipe = {"base": "demo", "library": {"batch_size": BATCH}, "build": {"workers": 1}, "rehearsal": rehearsal}
    (folder / "rehearsal.yaml").write_text(json.dumps(recipe))
    return Case(library, folder / "rehearsal.yaml", folder / "root", victim)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """`backline serve`, until Ctrl-C; a client of its API."""
    port, kept = free_port(), {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", str(port)]
    home = {"PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")), "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
    hears = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job hears no Ctrl-C
    with started(command, cwd=ROOT, env=kept | home) as process, httpx.Client(timeout=60) as api:
        signal.signal(signal.SIGINT, hears)
        api.base_url = httpx.URL(f"http://127.0.0.1:{port}/api")
        wait_for(lambda: served_there(api, "build-dataset/laptop"), process, "backline serve")
        yield api
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            pytest.fail("backline serve goes on for a minute after Ctrl-C")


def served_there(api: httpx.Client, deployment: str) -> bool:
    try:
        return api.get(f"/deployments/name/{deployment}").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def window(served: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    scratch = tmp_path_factory.mktemp("shots")
    with open_window(Path(os.environ.get("BACKLINE_SHOTS") or scratch), scratch / "last.png") as window:
        window.page.goto(str(served.base_url).replace("/api/", "/"))
        yield window


@pytest.fixture(scope="module")
def form(window: Window) -> Window:
    """At the run form, by clicks from the start page."""
    page = window.page
    page.get_by_role("link", name="Deployments", exact=True).click()
    page.get_by_role("row").filter(has_text="build-dataset").get_by_role("link", name="laptop").click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    page.get_by_role("textbox", name="Library").wait_for()
    return window


def test_run_form_explains_its_fields_and_asks_for_the_songs_first(form: Window) -> None:
    lines = form.page.get_by_role("main").inner_text().splitlines()
    titles = ["Library", "Root", "Recipe (Optional)", "Limit (Optional)", "Stages (Optional)", "Engine (Optional)"]
    places = [lines.index(title) for title in titles]
    assert places == sorted(places)
    for name, field in BuildParameters.model_fields.items():
        assert field.description in lines, name
    assert all(stage in lines for stage in ALL_STAGES)


@pytest.fixture(scope="module")
def failed(form: Window, served: httpx.Client, case: Case) -> str:
    """The id of a run that was started with the form and failed at one batch; the window shows it."""
    page = form.page
    page.get_by_role("textbox", name="Run Name").fill(NAME)
    page.get_by_role("textbox", name="Library").fill(str(case.library))
    page.get_by_role("textbox", name="Root").fill(str(case.root))
    page.get_by_role("textbox", name="Recipe").fill(str(case.recipe))
    form.shoot("run-form", 1000)
    run = submit(page)
    page.get_by_role("main").get_by_role("link", name=NAME).first.click()
    page.wait_for_url(f"**/runs/flow-run/{run}*")
    wait_for(lambda: state_of(served, run) in ("FAILED", "COMPLETED", "CRASHED"), None, "the build", RUN_SECONDS)
    page.reload()
    return run


def submit(page: Page) -> str:
    """Press Submit, again where a crowded server refuses; the run's id."""
    for _ in range(TRIES):
        with page.expect_response(lambda answer: answer.url.endswith("/create_flow_run")) as made:
            page.get_by_role("button", name="Submit").click()
        if made.value.ok:
            return str(made.value.json()["id"])
    raise AssertionError(f"the server refused the run {TRIES} times, at last with {made.value.status}")


def state_of(api: httpx.Client, run: str) -> str:
    return str(api.get(f"/flow_runs/{run}").json()["state"]["type"])


def test_failure_is_told_where_a_person_looks(failed: str, window: Window, case: Case) -> None:
    state = window.page.get_by_role("main").get_by_text("Failed", exact=True)
    state.first.wait_for()
    told = f"{FAILS} batch {case.batch}"
    window.tab("Details")
    window.page.get_by_role("tabpanel").get_by_text(told).wait_for()
    window.tab("Logs")
    window.page.get_by_role("tabpanel").get_by_text("the rehearsal asked for it").first.wait_for()


@pytest.fixture(scope="module")
def retried(failed: str, window: Window, served: httpx.Client, case: Case) -> dict[str, list[str]]:
    """The button Retry, pressed; name -> states of the task runs, in both attempts."""
    page = window.page
    page.get_by_role("main").get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Retry").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Retry").click()
    wait_for(lambda: run_count(served, failed) == 2, None, "the second attempt", RUN_SECONDS)
    wait_for(lambda: state_of(served, failed) in ("FAILED", "COMPLETED", "CRASHED"), None, "the Retry", RUN_SECONDS)
    where = {"flow_runs": {"id": {"any_": [failed]}}}
    known: dict[str, list[str]] = {}

    def all_told() -> bool:
        """States of tasks are events, which the server takes in one by one: the last ones after the run has ended."""
        known.clear()
        known.update(states_of(served, where))
        return all(known.get(name) == done for name, done in expected(case).items())

    with suppress(TimeoutError):  # what is missing then, the test says
        wait_for(all_told, None, "the task runs", TOLD_SECONDS)
    page.reload()
    return known


def run_count(api: httpx.Client, run: str) -> int:
    return int(api.get(f"/flow_runs/{run}").json()["run_count"])


def states_of(api: httpx.Client, where: dict[str, Any]) -> dict[str, list[str]]:
    """Name -> states of the task runs, in the order of their begin."""
    states: dict[str, list[str]] = {}
    for task in api.post("/task_runs/filter", json=where | {"sort": "EXPECTED_START_TIME_ASC"}).json():
        states.setdefault(task["name"], []).append(task["state_name"])
    return states


def expected(case: Case) -> dict[str, list[str]]:
    """Name of a stage and batch -> the states of its task runs in both attempts."""
    before, found = ALL_STAGES[: ALL_STAGES.index(FAILS)], {}
    for stage in ALL_STAGES[:-1]:
        for batch in range(SONGS // BATCH):
            done = ["Completed", "Cached"]  # in the first attempt, and so not in the second
            if batch == case.batch and stage not in before:
                done = ["Failed", "Completed"] if stage == FAILS else ["Completed"]
            found[f"{stage}-{batch}"] = done
    return found


def test_retry_runs_again_only_the_batch_that_failed(
    retried: dict[str, list[str]], failed: str, window: Window, served: httpx.Client, case: Case
) -> None:
    assert state_of(served, failed) == "COMPLETED"
    assert {name: retried.get(name) for name in expected(case)} == expected(case)


def test_page_shows_which_batch_ran_again(retried: dict[str, list[str]], window: Window, case: Case) -> None:
    window.tab("Task Runs")
    page = window.page
    page.get_by_role("textbox", name="Search by run name").fill(f"{FAILS}-")
    tasks = page.get_by_role("tabpanel").get_by_role("listitem").filter(has=page.get_by_role("navigation"))
    for batch in range(SONGS // BATCH):
        runs = tasks.filter(has_text=f"{FAILS}-{batch}")
        for state in ("Failed", "Completed") if batch == case.batch else ("Completed", "Cached"):
            runs.filter(has_text=state).first.wait_for()
    assert tasks.count() == 2 * SONGS // BATCH
    window.shoot("retry", 1250)


def test_funnel_is_a_table_of_every_stage(retried: dict[str, list[str]], window: Window) -> None:
    page = window.page
    window.tab("Artifacts")
    page.get_by_role("link").filter(has=page.get_by_role("heading", name="funnel", exact=True)).first.click()
    page.wait_for_url("**/artifacts/key/funnel")
    page.get_by_role("main").locator("a[href*='/artifacts/artifact/']").first.click()
    page.wait_for_url("**/artifacts/artifact/*")
    table = page.get_by_role("table")
    first = table.get_by_role("row").nth(1)
    first.wait_for()
    assert str(SONGS) in first.inner_text()
    window.shoot("funnel", 1000)


def test_page_tells_nobody_beyond_this_machine(retried: dict[str, list[str]], window: Window) -> None:
    """Its analytics are off: what is left is the library's own question for settings, with nothing in it."""
    assert {method for method, _ in window.outside} <= {"GET"}
    assert {httpx.URL(url).host for _, url in window.outside} <= {"sr-client-cfg.amplitude.com"}
