"""The limit on stages that need a GPU, on a real server: who waits, who does not, and what a kill leaves."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from threading import Event, Thread

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_server import ROOT, Server, free_port

from flows.recipe import Recipe, load_recipe
from flows.server_setup import make_gpu_limit
from flows.slots import GPU_LIMIT, LEASE_SECONDS, gpu_slot, needs_gpu

pytestmark = pytest.mark.timeout(2400)
GPU = load_recipe("demo", ["separation.device=cuda"])
SWEEP_SECONDS = 60  # in which Prefect takes back slots whose lease ran out: it looks every 15 s
HOLD = """\
import time
from flows.recipe import load_recipe
from flows.slots import gpu_slot
with gpu_slot("separation", load_recipe("demo", ["separation.device=cuda"])):
    print("taken", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def limit(server: Server) -> Iterator[None]:
    """One slot."""
    with server.here():
        make_gpu_limit(1)
        yield
        with get_client(sync_client=True) as client:
            client.delete_global_concurrency_limit_by_name(GPU_LIMIT)


def taken(server: Server) -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(GPU_LIMIT).active_slots


def take(recipe: Recipe, server: Server, inside: Event, leave: Event) -> Thread:
    """A thread that takes a slot and keeps it until told."""

    def work() -> None:
        with server.here(), gpu_slot("separation", recipe):
            inside.set()
            leave.wait(300)

    thread = Thread(target=work)
    thread.start()
    return thread


def test_which_stages_need_a_gpu() -> None:
    assert needs_gpu("separation", GPU)
    assert not needs_gpu("separation", load_recipe("demo"))
    assert not needs_gpu("detection", GPU)
    assert needs_gpu("quality", load_recipe("demo", ["build.resources.quality.gpus=1"]))


def test_second_stage_waits_for_the_slot_of_the_first_and_others_do_not(server: Server, limit: None) -> None:
    first, second, leave = Event(), Event(), Event()
    threads = [take(GPU, server, first, leave)]
    assert first.wait(120)
    assert taken(server) == 1
    threads.append(take(GPU, server, second, leave))
    with gpu_slot("detection", GPU), gpu_slot("separation", load_recipe("demo")):
        assert not second.wait(3)
    leave.set()
    assert second.wait(120)
    for thread in threads:
        thread.join(120)
    assert taken(server) == 0


def test_nothing_waits_without_a_limit_or_without_a_server(server: Server) -> None:
    with server.here(), gpu_slot("separation", GPU), gpu_slot("separation", GPU):
        pass
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}), gpu_slot("separation", GPU):
        pass


@pytest.mark.slow
def test_killed_run_gives_its_slot_back_when_its_lease_runs_out(server: Server, limit: None) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], cwd=ROOT, env=server.env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"taken\n"
        assert taken(server) == 1
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + LEASE_SECONDS + SWEEP_SECONDS
    while taken(server) and time.monotonic() < deadline:
        time.sleep(2)
    assert taken(server) == 0
