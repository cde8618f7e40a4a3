"""Quality: named scores of a recording from 1 to 5, higher is better.

Conventions: this stage measures and never judges; the gate lives in selection, outside every stage key. The names of
the scores and their mean belong to the backend: ``signal`` gives level, clipping, bandwidth, noise and hum, which are
properties of the recording and not of the music, and means them so that one bad score can't be bought off;
``songeval`` gives Coherence, Musicality, Memorability, Clarity and Naturalness, and their plain mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field

from pipeline.assets.needs import SHIPPED, Needs
from pipeline.backends import load_backend
from pipeline.config import Config
from pipeline.types import Audio

VERSION = 2  # part of the stage's key: bump it when the answer of a backend changes


class Anchors(Config):
    """The two values of a measurement that score 2 and 4; a logistic curve runs through them, from 1 to 5."""

    poor: float
    good: float


class SongEvalConfig(Config):
    # s; a longer song is cut into equal parts, heard apart (see songeval/README.md). Ours, for memory: released, none
    whole_seconds: float = Field(default=600.0, ge=1.0)


class QualityConfig(Config):
    """Anchors: ours, set on 43 rendered songs and 41 real recordings, 30 to 40 s each, clean and with faults."""

    backend: Literal["signal", "songeval"] = "signal"
    level: Anchors = Anchors(poor=-48.0, good=-40.0)  # dBFS RMS of what isn't silent
    clipping: Anchors = Anchors(poor=0.03, good=0.003)  # share of samples on flat tops
    bandwidth: Anchors = Anchors(poor=9_000.0, good=12_000.0)  # Hz, of a spectrum that ends by itself
    coded: Anchors = Anchors(poor=11_500.0, good=15_000.0)  # Hz, of one that ends at a wall: mp3 at 64 and 96 kbit/s
    noise: Anchors = Anchors(poor=-31.0, good=-43.0)  # dB, steady noise against the programme, weighed by steadiness
    hum: Anchors = Anchors(poor=-24.0, good=-34.0)  # dB, lines of the mains against the programme
    exponent: float = Field(default=-8.0, lt=0)  # of the power mean; ours: a single score of 2 among fives gives 2.4
    songeval: SongEvalConfig = SongEvalConfig()
    device: Literal["cpu", "cuda"] = "cpu"  # of SongEval


@dataclass(frozen=True, slots=True)
class Quality:
    scores: Mapping[str, float]  # name -> 1..5
    mean: float  # of all scores as the backend means them, 1..5: what the gate looks at


class Rater(Protocol):
    name: str
    config: QualityConfig
    backend: str
    weights_sha256: str
    licence: str

    def __call__(self, audio: Audio) -> Quality:
        """Rate a file of any rate and channel count. Same audio, same scores."""


@runtime_checkable
class BatchRater(Protocol):
    """One whose batches several songs fill together."""

    def batch(self, songs: Sequence[Audio]) -> list[Quality]:
        """What it says of each song alone, bit for bit on the same machine."""


def rate(rater: Rater, songs: Sequence[Audio]) -> list[Quality]:
    """Rate several songs, at once where the rater can."""
    return rater.batch(songs) if isinstance(rater, BatchRater) else [rater(audio) for audio in songs]


BACKENDS = {"signal": "pipeline.quality.signal:build", "songeval": "pipeline.quality.songeval.rater:build"}
SONGEVAL_ASSETS = ("muq", "songeval")
# s of audio in a batch: 6000 states of MuQ, whose narrowest layer is then 2.8 tiles of 128 x 128 for each of the 132
# multiprocessors of an H100. Longer songs fill a GPU alone; more at once would gain nothing. Computed, not measured.
AT_ONCE = 240.0
SONGS_AT_ONCE = 1200.0  # s of songs that a worker hears at once: ours, as for captions; five batches of short ones


def needs(config: QualityConfig) -> Needs:
    """What the chosen backend asks of a machine. SongEval: 0.35 e9 parameters in float32 (1.4 GB) and, computed, 1.4 GB
    for each 10 minutes of the widest layer of MuQ's attention part, a few at once."""
    if config.backend == "signal":
        return SHIPPED
    return Needs(SONGEVAL_ASSETS, gpu_memory_gb=6.0, memory_gb=6.0, batch_seconds=AT_ONCE, songs_seconds=SONGS_AT_ONCE)


def build(config: QualityConfig) -> Rater:
    """Load the backend named in the config; `BackendUnavailable` if its package or weights are missing."""
    rater: Rater = load_backend("quality", BACKENDS, config)
    return rater
