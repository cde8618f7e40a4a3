"""What an evaluation found, as values and as ``results.json``.

Conventions: values are raw (0..1 for F1, cosines and shares; 1..5 for quality; nats per token for NLL; squared
embedding units for FAD). No dates, no hosts: the same run gives the same
per-song results, seconds apart.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from model.evaluation.intervals import Better, Interval, Verdict

SCHEMA_VERSION = 1
System = Literal["model", "random_codes", "other_song", "codec", "truth"]
"""The model; two floors; the ceiling (the truth through the codec); the true accompaniment itself."""
FLOORS: tuple[System, ...] = ("random_codes", "other_song")
SYSTEM_NAMES = {
    "model": "model",
    "random_codes": "random codes",
    "other_song": "another song's band",
    "codec": "truth through the codec",
    "truth": "true accompaniment",
    "uniform": "every code equally likely",
    "unigram": "code frequencies of training",
}


@dataclass(frozen=True, slots=True)
class Floor:
    """Something that a useful model must beat."""

    name: str
    value: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of the model, between its floors and its ceiling."""

    name: str
    label: str
    group: str
    unit: str
    better: Better | None  # None: a check without a good side
    value: float
    n: int  # songs
    interval: Interval | None
    interval_kind: Literal["bootstrap", "jackknife", "quartiles"]
    chance: float | None = None  # of unrelated onsets at the same rates
    floors: tuple[Floor, ...] = ()
    ceiling: float | None = None
    truth: float | None = None
    note: str = ""  # what a reader must know before trusting it


@dataclass(frozen=True, slots=True)
class SongResult:
    """One test song: metric -> value for each system."""

    key: str
    text: str
    seed: int
    duration: float  # s
    seconds: Mapping[str, float]  # phase of generation -> s, and "total"
    systems: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which model and which tools the numbers belong to."""

    checkpoint: str
    config_hash: str  # of the training run
    evaluation_hash: str  # of the settings below
    device: str
    sampler: Mapping[str, Any]
    settings: Mapping[str, Any]
    codec: str
    codec_sha256: str
    embedder: str
    embedder_sha256: str
    rater: str


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that ``results.json`` holds."""

    scores: tuple[Score, ...]
    songs: tuple[SongResult, ...]
    phases: Mapping[str, float]  # phase -> median seconds of work per second of audio
    provenance: Provenance
    skipped: Mapping[str, str] = field(default_factory=dict)  # key of a song that could not be used -> why

    def score(self, name: str) -> Score:
        """The score of that name; `KeyError` listing the names there are."""
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(f"no score {name!r}; there are {', '.join(s.name for s in self.scores)}")

    def beaten(self, floor: str) -> tuple[int, int]:
        """How many scores clearly beat that floor, and how many were judged against it."""
        verdicts = [f.verdict for score in self.scores for f in score.floors if f.name == floor]
        return verdicts.count("beats"), len(verdicts)

    def statements(self) -> tuple[str, ...]:
        """One sentence per metric and floor: whether the model beats it."""
        verb = {"beats": "beats", "unclear": "does not clearly differ from", "loses": "is worse than"}
        return tuple(
            f"{score.label}: the model {verb[f.verdict]} {SYSTEM_NAMES.get(f.name, f.name)} "
            f"({score.value:.3g} against {f.value:.3g})"
            for score in self.scores
            for f in score.floors
        )


def write(results: Results, path: Path) -> None:
    """Write ``results.json``."""
    data = {"schema_version": SCHEMA_VERSION, **asdict(results), "statements": results.statements()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )


def read(path: Path) -> Results:
    """Inverse of `write`; `ValueError` for a file of another schema version."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if data["schema_version"] != SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema version {data['schema_version']}, this code reads {SCHEMA_VERSION}: evaluate again"
        )
    return Results(
        scores=tuple(_score(score) for score in data["scores"]),
        songs=tuple(SongResult(**song) for song in data["songs"]),
        phases=data["phases"],
        provenance=Provenance(**data["provenance"]),
        skipped=data["skipped"],
    )


def _score(data: Mapping[str, Any]) -> Score:
    interval = data["interval"]
    floors = tuple(Floor(**floor) for floor in data["floors"])
    return Score(**{**data, "floors": floors, "interval": interval and Interval(**interval)})
