"""Ray as the engine sees it: joining a cluster or starting one here, its machines, its actors.

Conventions: no dashboard, no usage statistics. Ray's ports are open to the network, guarded by its token alone.
"""

import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.engine.placement import Amounts
from flows.engine.station import Station
from flows.engine.supervisor import Limits
from flows.recipe import BuildConfig, Resources
from pipeline.errors import BackendUnavailable

STORE_BYTES = 100_000_000  # of the object store of a Ray of our own: what passes is rows, so the least that Ray allows
GB = 1e9  # bytes
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else each start warns of it; a worker without a GPU asks for none
}


@dataclass(frozen=True, slots=True)
class Machine:
    """One living machine of the cluster."""

    name: str  # Ray's id
    address: str
    has: Amounts


class Cluster:
    """A connection to Ray, until `close`."""

    def __init__(self, config: BuildConfig) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:
            raise BackendUnavailable("the ray engine needs the extra `ray`: pip install 'backline[ray]'") from error
        self.ray: Any = ray
        self.ours = not ray.is_initialized()
        if self.ours:
            _connect(config)

    def close(self) -> None:
        """Leave the cluster; a Ray of our own ends."""
        if self.ours:
            self.ray.shutdown()
            self.ours = False

    def machines(self) -> list[Machine]:
        """Those that live now."""
        return [
            Machine(node["NodeID"], node["NodeManagerAddress"], _amounts(node["Resources"]))
            for node in self.ray.nodes()
            if node["Alive"]
        ]

    def here(self) -> str:
        """The id of the machine that this process runs on."""
        return str(self.ray.get_runtime_context().get_node_id())

    def hire(self, needs: Resources, limits: Limits) -> Any:
        """A handle of a new station, somewhere."""
        actor: Any = self.ray.remote(Station)
        return actor.options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            memory=int(needs.memory_gb * GB),
            max_restarts=0,  # a lost station's song goes to another, and counts
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        ).remote(limits)

    def dismiss(self, station: Any) -> None:
        """End a station and its worker at once."""
        self.ray.kill(station, no_restart=True)

    def ready(self, asked: list[Any], timeout: float) -> list[Any]:
        """The references whose answers are there, after waiting for the first at most `timeout` s."""
        first, _ = self.ray.wait(asked, num_returns=1, timeout=timeout)
        if not first:
            return []
        ready: list[Any] = self.ray.wait(asked, num_returns=len(asked), timeout=0)[0]
        return ready


def _connect(config: BuildConfig) -> None:
    import ray

    address = config.ray_address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {
        "num_cpus": config.workers,
        "object_store_memory": STORE_BYTES,
        "include_dashboard": False,
    }
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(_our_path())}},
            **(own if address == "local" else {}),
        )
    except ConnectionError as error:
        raise BackendUnavailable(
            f"no Ray cluster answers at {address!r} (build.ray_address, else RAY_ADDRESS): {error}; start one with "
            "`ray start --head`, or leave both empty for a Ray on this machine"
        ) from error
    finally:
        if in_main and before is not None:
            signal.signal(signal.SIGTERM, before)  # Ray puts its own, and a flow that is told to end must hear it


def _our_path() -> list[str]:
    """Where this process imports from, apart from Python's own folders: other machines may have those elsewhere."""
    own = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    entries = [Path(entry or os.getcwd()).resolve() for entry in sys.path]
    return [str(entry) for entry in entries if not own.intersection((entry, *entry.parents))]


def _amounts(resources: dict[str, float]) -> Amounts:
    return (resources.get("CPU", 0.0), resources.get("GPU", 0.0), resources.get("memory", 0.0) / GB)
