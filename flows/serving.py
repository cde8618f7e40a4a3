"""A Prefect server on loopback and, in this process, a runner for the deployments."""

import logging
import os
import socket
import subprocess
import sys
import time
from typing import Any, cast

import httpx

from flows.leaving import end_within
from pipeline.errors import PipelineError

logger = logging.getLogger(__name__)
LEASES = "prefect.server.concurrency.lease_storage.filesystem"  # in memory, a restart would leave slots taken for good
START_SECONDS = 400  # a cold start took 22-60 s on a loaded machine, over 180 s on one with 15 busy processes a core

GONE_SECONDS = 10.0  # for events of a runner whose server it has just ended: nobody takes them. Ours


class ServerDownError(PipelineError):
    """The Prefect server did not come up."""


def start_server(port: int) -> subprocess.Popen[bytes]:
    """A server on 127.0.0.1 that answers its health check; `ServerDownError` after `START_SECONDS`."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ServerDownError(f"port {port} of 127.0.0.1 is in use, by another Prefect server perhaps; try --port")
    words = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
    environment.setdefault("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", LEASES)
    environment["PREFECT_SERVER_UI_API_URL"] = f"http://127.0.0.1:{port}/api"  # else the page asks port 4200
    process = subprocess.Popen(words, env=environment)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerDownError(
                f"the Prefect server ended with code {process.returncode}; is port {port} in use? Try --port"
            )
        if healthy(port):
            return process
        time.sleep(1)
    process.kill()
    process.wait()
    raise ServerDownError(
        f"the Prefect server did not answer on port {port} within {START_SECONDS} s; its log is above"
    )


def healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def serve_all(port: int, limit: int, gpu_slots: int) -> None:
    """Server, deployments and runner, until interrupted."""
    server = start_server(port)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    try:
        run_deployments(limit, gpu_slots)
    finally:
        server.terminate()
        server.wait(30)
        end_within(GONE_SECONDS, 0)


def run_deployments(limit: int, gpu_slots: int) -> None:
    """Serve the flows; needs PREFECT_API_URL, so Prefect is imported only here.

    A build that fans out waits for its partitions, so they are served only where it leaves them a slot.
    """
    from prefect import serve
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from flows.build_dataset import build_dataset
    from flows.build_partition import build_partition
    from flows.evaluate_model import evaluate_model
    from flows.server_setup import TAG, TRAINING, set_up
    from flows.train_model import train_model

    set_up(gpu_slots)
    # By module: by file, Prefect would put flows/ before the standard library, where our names hide its modules.
    how: dict[str, Any] = {"tags": [TAG], "entrypoint_type": EntrypointType.MODULE_PATH}
    deployments = [build_dataset.to_deployment("laptop", concurrency_limit=1, **how)]
    deployments.append(evaluate_model.to_deployment("laptop", **how))
    deployments.append(train_model.to_deployment("laptop", **how | {"tags": [TAG, TRAINING]}))
    if limit > 1:
        deployments.append(build_partition.to_deployment("laptop", **how))
    serve(*cast(list[RunnerDeployment], deployments), limit=limit, pause_on_shutdown=False)
