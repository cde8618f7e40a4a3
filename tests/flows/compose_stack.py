"""infra/compose.yaml without containers: its environments and commands, on this machine's PostgreSQL and Redis."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from private_servers import free_port, postgres, redis, started, wait_for

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"


@dataclass(frozen=True)
class Stack:
    """The services of compose.yaml, with the secrets of env.example, at free ports of 127.0.0.1."""

    services: Mapping[str, Mapping[str, Any]]
    places: Mapping[str, str]  # "redis:6379" -> "127.0.0.1:40213"
    home: Path  # of what Prefect's processes keep

    @property
    def api(self) -> str:
        return f"http://{self.places['server:4200']}/api"

    def port(self, name: str) -> str:
        return self.places[name].split(":")[1]

    def environment(self, service: str) -> dict[str, str]:
        """This process' environment without what it says to Prefect, and the service's."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
        given = {name: self.located(value) for name, value in self.services[service]["environment"].items()}
        return kept | {"PREFECT_HOME": str(self.home)} | given

    def command(self, service: str) -> list[str]:
        """A service's words, for this Python and for loopback."""
        tool, *words = shlex.split(self.services[service]["command"])
        module = {"prefect": "prefect", "backline": "flows.cli"}[tool]
        return [sys.executable, "-m", module, *(word.replace("0.0.0.0", "127.0.0.1") for word in words)]

    def located(self, value: str) -> str:
        for name, place in self.places.items():
            value = value.replace(name, place)
        return value

    @contextmanager
    def run(self, service: str, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A service's process, until the block ends."""
        environment = self.environment(service) | more
        log = (self.home / f"{service}.log").open("wb")
        with log, started(self.command(service), cwd=ROOT, env=environment, output=log) as process:
            yield process

    def client(self) -> httpx.Client:
        """Of the API, with the password that the worker has."""
        user, password = self.environment("worker")["PREFECT_API_AUTH_STRING"].split(":")
        return httpx.Client(base_url=self.api, auth=(user, password), timeout=60)


@contextmanager
def serve_stack(home: Path) -> Iterator[Stack]:
    """PostgreSQL, Redis, the API server and the background services of compose.yaml; no worker yet."""
    places = {name: f"127.0.0.1:{free_port()}" for name in ("postgres:5432", "redis:6379", "server:4200")}
    places["127.0.0.1:4200"] = places["server:4200"]  # the API as a browser on this machine sees it
    stack = Stack(read_services(), places, home)
    account = [stack.services["postgres"]["environment"][f"POSTGRES_{name}"] for name in ("USER", "PASSWORD", "DB")]
    with ExitStack() as running:
        running.enter_context(postgres(stack.port("postgres:5432"), *account))
        running.enter_context(redis(stack.port("redis:6379")))
        server = running.enter_context(stack.run("server", PREFECT_SERVER_API_PORT=stack.port("server:4200")))
        wait_for(lambda: answers(f"{stack.api}/health"), server, "Prefect's server")
        running.enter_context(stack.run("services"))
        yield stack


def read_services() -> dict[str, dict[str, Any]]:
    """compose.yaml's services, its ``${NAME:?…}`` filled from env.example."""
    secrets = dict(line.split("=", 1) for line in (INFRA / "env.example").read_text().splitlines() if "=" in line)
    text = re.sub(r"\$\{([A-Z_]+):[^}]*\}", lambda found: secrets[found[1]], (INFRA / "compose.yaml").read_text())
    services: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return services


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
