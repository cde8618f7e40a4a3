"""A process that has something to tell to a server that never answers ends all the same, with its own exit code."""

import socket
import subprocess
import sys
import time

import pytest
from prefect_server import ROOT

BOUND = 1.0  # s
PROGRAM = """
import os
from flows.environment import prepare
prepare(quiet=True)
from prefect.events import emit_event
from flows.leaving import end_within
if {events}:
    emit_event(event="a", resource={{"prefect.resource.id": "b"}})
print("through", flush=True)
end_within({seconds}, 3)
raise SystemExit({status})
"""


def run(events: int, seconds: float, status: int) -> tuple[int, str, float]:
    """How a process ends whose server takes its calls and says nothing, and how long after its last word."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        env = {"PREFECT_API_URL": f"http://127.0.0.1:{mute.getsockname()[1]}/api", "PATH": "/usr/bin:/bin"}
        words = [sys.executable, "-c", PROGRAM.format(events=events, seconds=seconds, status=status)]
        with subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            begun = time.monotonic()
            return process.wait(60), said, time.monotonic() - begun


def test_process_ends_within_the_bound_though_events_wait() -> None:
    status, said, seconds = run(events=1, seconds=BOUND, status=0)
    assert (status, said) == (3, "through\n")
    assert seconds > BOUND


def test_process_without_anything_to_tell_ends_by_itself() -> None:
    status, _, seconds = run(events=0, seconds=50.0, status=4)
    assert status == 4
    assert seconds < 50.0


@pytest.mark.parametrize("mine", [True, False])
def test_process_of_a_run_is_bounded_and_no_other(mine: bool, prefect: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect import flow, runtime

    from flows import leaving

    bounds = []
    monkeypatch.setattr(leaving, "end_within", lambda seconds, status: bounds.append((seconds, status)))

    @flow
    def little() -> None:
        monkeypatch.setenv("PREFECT__FLOW_RUN_ID", str(runtime.flow_run.id) if mine else "another")
        with leaving.run_ends():
            pass
        with pytest.raises(ZeroDivisionError), leaving.run_ends():
            raise ZeroDivisionError

    little()
    assert bounds == ([(leaving.RUN_SECONDS, 0), (leaving.RUN_SECONDS, 1)] if mine else [])
