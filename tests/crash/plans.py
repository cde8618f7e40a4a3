"""What a test asks of the programs that kill; light, so that pytest imports neither Prefect nor Ray for it."""

from dataclasses import dataclass

SCENARIOS = (
    "first build",
    "stems let go",
    "songs added",
    "setting changed",
    "song forgotten",
    "leftovers collected",
)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Kills at steps in the file system (`driver`)."""

    folder: str
    scenario: str
    kills: int = 0  # seeded among all steps; 0 = every step
    seed: int = 0
    power_cut: bool = False
    lane: int = 0  # of `lanes` processes that share the kills
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Kills of the local engine's processes (`pool`)."""

    folder: str
    seed: int = 0
    workers_at_places: int = 0
    workers_at_times: int = 0
    engines_at_steps: int = 0
    engines_at_times: int = 0

    @property
    def kills(self) -> int:
        return self.workers_at_places + self.workers_at_times + self.engines_at_steps + self.engines_at_times


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """Kills of processes that run the flow, some on one root before one may end (`flow`)."""

    folder: str
    seed: int = 0
    kills: int = 12
    in_a_row: int = 3


@dataclass(frozen=True, slots=True)
class NodePlan:
    """Kills of machines of a Ray cluster, some during one build (`nodes`)."""

    folder: str
    seed: int = 0
    kills: int = 8
    in_a_build: int = 2


@dataclass(frozen=True, slots=True)
class StorePlan:
    """Kills at requests to an object store (`store`)."""

    folder: str
    bucket: str
    seed: int = 0
    kills: int = 0  # seeded among all requests that change something; 0 = every one
    large: bool = False  # a shard that is uploaded in parts, else a build of tiny songs
