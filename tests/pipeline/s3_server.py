"""A real S3 server on loopback (moto's, in a process of its own), for tests of roots in an object store."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

BUCKET = "library-of-songs"
# One request after another: moto looks whether a key is there and writes it in two steps, so that two threads could
# both win a conditional create, which S3 rules out.
_SERVER = """
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", {port}, DomainDispatcherApplication(create_backend_app), threaded=False)
"""


def require_extra() -> None:
    """Skip without the extra `s3` and moto; fail under CI."""
    missing = [name for name in ("s3fs", "moto", "flask") if importlib.util.find_spec(name) is None]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"{missing} are missing: install the extra `s3` and the group `dev`")
    if missing:
        pytest.skip(f"no {missing}: install the extra `s3` and moto[server]")


@contextmanager
def serve_s3() -> Iterator[str]:
    """The URL of an empty bucket; this process and those it starts find the server by its environment."""
    import s3fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _SERVER.format(port=port)]
    with pytest.MonkeyPatch.context() as environment, subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        environment.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "testing")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        try:
            _wait_for(port)
            s3fs.S3FileSystem.clear_instance_cache()
            s3fs.S3FileSystem(use_listings_cache=False).mkdir(BUCKET)
            yield f"s3://{BUCKET}"
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"moto's server did not listen on port {port} within 30 s")
